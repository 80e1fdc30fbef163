"""The finished outputs that labels are looked at in: one, or those of a schedule's runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UsageError
from pipeline.job.file.load import job_from
from pipeline.job.job import Job
from pipeline.output.commit.records import TRUST, CommitRecord
from pipeline.output.dataset import Dataset
from pipeline.output.folder import as_json
from pipeline.output.growing.growing import parts_of
from pipeline.output.manifest import Manifest, need_manifest
from pipeline.output.verify.promises import lay_out


@dataclass(frozen=True)
class OutputPart:
    """One output folder, whose every unit is committed. ``records``: in input order."""

    dataset: Dataset
    manifest: Manifest
    records: tuple[CommitRecord, ...]

    @property
    def rows(self) -> int:
        return sum(record.tally.rows for record in self.records)

    @property
    def answered(self) -> int:
        """Rows that have an answer."""
        return sum(record.tally.succeeded for record in self.records)

    def file_of(self, record: CommitRecord) -> str:
        """The input file that its rows came from, as reviews call it."""
        return self.manifest.content.shards[record.row_range.shard].called


def part_of(dataset: Dataset) -> OutputPart:
    """Raises UsageError where there is no output, or one that is not whole."""
    where = dataset.storage.address()
    manifest = need_manifest(dataset)
    layout = lay_out(manifest, dataset.state())
    records = tuple(record for _, record in layout.leaves if record is not None)
    if len(records) < len(layout.leaves) or layout.faults:
        raise UsageError(f"{where} is not finished", "run the job first: rackmill run JOB.yaml")
    return OutputPart(dataset, manifest, records)


def parts_at(address: str) -> list[OutputPart]:
    """Of the output at an address. Raises UsageError, StorageFailed."""
    parts = [part_of(Dataset(storage)) for storage in parts_of(address)]
    if not parts:
        raise UsageError(f"{address} holds no output of rackmill")
    return parts


def kept_of_trust(dataset: Dataset, key: str) -> dict[str, Any]:
    """What ``keep_trust`` has written: of the ``questions``, or what was ``asked`` for by name."""
    with suppress(ValueError, AttributeError):
        found = json.loads(dataset.storage.read(TRUST) or b"{}").get(key)
        return found if isinstance(found, dict) else {}
    return {}


def keep_trust(
    dataset: Dataset, questions: Mapping[str, dict[str, Any]], asked: Mapping[str, Any]
) -> None:
    """Write what is known of the labels of each question beside them."""
    content = as_json({"questions": questions, "asked": asked})
    if dataset.storage.read(TRUST) != content:
        dataset.storage.replace(TRUST, content)


def job_of(part: OutputPart, content: dict[str, Any] | None = None) -> Job:
    """The job that made it, or ``content`` instead of what is kept of that. Raises UsageError."""
    content = content if content is not None else part.dataset.job()
    if content is None:
        raise UsageError(
            f"{part.dataset.storage.address()}: its job is gone or damaged",
            "run the same job again: it writes that anew",
        )
    return job_from(content)
