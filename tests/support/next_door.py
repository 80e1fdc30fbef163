"""A whole worker in the process of its coordinator: no Ray between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.dispatch.events import NoLease
from pipeline.driver.coordinator.coordinator import Coordinator
from pipeline.driver.plan.plan import Plan
from pipeline.input.units import Unit
from pipeline.model.tokenizer import Tokenizer
from pipeline.output.commit.records import CommitRecord
from pipeline.output.dataset import Dataset
from pipeline.output.rows.redo import Redone
from pipeline.storage.base import open_storage
from pipeline.worker.coordination.messages import LastWords, Lease, Progress, WorkerSpec
from pipeline.worker.feeder import Feeder


def worker_spec(plan: Plan, **more: Any) -> WorkerSpec:
    """What a worker is told of a planned job."""
    known: dict[str, Any] = {"engine_arguments": {}, "provenance": {}}
    return WorkerSpec(
        job=plan.job,
        shards=plan.input.files.shards,
        input_schema=plan.input.files.schema,
        columns=plan.input.columns,
        model=plan.model,
        **known | more,
    )


def new_feeder(spec: WorkerSpec, coordination: Any) -> Feeder:
    """A feeder whose units without any row for the engine go nowhere."""
    dataset = Dataset(open_storage(spec.job.output.path))
    return Feeder(spec, dataset, Tokenizer(spec.model.path), coordination, lambda unit: None)


class AllLeased:
    """A coordinator that has leased all that there is to one worker."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._answers: list[Lease | NoLease] = [Lease(tuple(units)), NoLease.DONE]

    def acquire(self) -> Lease | NoLease:
        return self._answers.pop(0) if self._answers else NoLease.DONE

    def committed(self, records: Sequence[CommitRecord | Redone]) -> None: ...

    def listen(self, source: Feeder) -> None: ...

    def heartbeat(self, progress: Progress) -> None: ...

    def announce(self) -> None: ...

    def engine_failed(self, said: LastWords) -> None: ...

    def note(self, line: str) -> None: ...


class NextDoor:
    """The coordinator, as one worker of it sees it."""

    def __init__(self, coordinator: Coordinator, name: str = "here") -> None:
        self.coordinator = coordinator
        self.name = name
        self.source: Feeder | None = None
        self.progress = Progress()
        self.records: list[CommitRecord | Redone] = []
        coordinator.join(name, "card")

    def acquire(self) -> Lease | NoLease:
        return self.coordinator.acquire(self.name)

    def committed(self, records: Sequence[CommitRecord | Redone]) -> None:
        self.records += records
        self.coordinator.commit(records)

    def listen(self, source: Feeder) -> None:
        self.source = source

    def heartbeat(self, progress: Progress) -> None:
        self.progress = progress
        self.announce()

    def announce(self) -> None:
        assert self.source is not None
        active = self.source.active_rows(self.progress)
        self.coordinator.heartbeat(self.name, self.progress, active, self.source.flights)

    def engine_failed(self, said: LastWords) -> None:
        self.coordinator.engine_failed(self.name, said)

    def note(self, line: str) -> None:
        self.coordinator.note(self.name, line)
