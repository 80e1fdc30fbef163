"""The progress of a schedule's runs, from the dataset that they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.errors import UsageError
from pipeline.output.growing.growing import STAGING, GrowingDataset, GrowingRun, is_growing
from pipeline.output.runs.status import Status, read_status
from pipeline.storage.base import open_storage


@dataclass(frozen=True)
class RunStatus:
    """One run. ``published``: readers see its rows; ``status`` None: it has only begun."""

    name: str
    schedule: str
    published: bool
    status: Status | None

    def as_json(self) -> dict[str, Any]:
        about = {"run": self.name, "schedule": self.schedule, "published": self.published}
        return about | {"status": self.status.as_json() if self.status else None}


def is_schedules(address: str) -> bool:
    """Whether runs of a schedule are there, published or not."""
    return is_growing(address) or bool(open_storage(f"{address}/{STAGING}").folders())


def read_statuses(address: str) -> list[RunStatus]:
    """The status of all runs, the oldest first. Raises UsageError, StorageFailed, JobFailed."""
    dataset = GrowingDataset(address)
    found = [_of(run, published=True) for run in dataset.published()]
    found += [_of(run, published=False) for run in dataset.unfinished()]
    return sorted(found, key=lambda run: run.name)


def _of(run: GrowingRun, *, published: bool) -> RunStatus:
    try:
        status = read_status(run.storage)
    except UsageError:
        status = None  # it has not read its input files yet
    return RunStatus(run.name, run.schedule, published, status)
