"""The coordinator: the dispatcher's state machine with names and a tally. It sees leases and
facts, never rows, so its memory grows with the number of units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.data.dataset import CommitRecord
from pipeline.data.tally import Tally
from pipeline.data.units import Unit
from pipeline.engine.protocol import EngineFacts
from pipeline.fleet.work import Progress
from pipeline.schedule.dispatcher import Dispatcher, Lease, Word


@dataclass(frozen=True)
class Snapshot:
    """How far a run is. ``workers``: the running totals of each, lost ones included."""

    units: int
    units_done: int
    committed: Tally  # of this run's commits
    workers: Mapping[str, Progress]
    engines: Mapping[str, EngineFacts]

    @property
    def done(self) -> bool:
        return self.units_done == self.units


@dataclass
class Coordinator:
    """Hands out units of a run and counts what comes back."""

    units: Sequence[Unit]
    committed_before: frozenset[str]
    expected_workers: int = 1
    _dispatcher: Dispatcher = field(init=False)
    _tally: Tally = field(default_factory=Tally)
    _workers: dict[str, Progress] = field(default_factory=dict)
    _engines: dict[str, EngineFacts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        done = {i for i, u in enumerate(self.units) if u.id in self.committed_before}
        self._dispatcher = Dispatcher(len(self.units), done, self.expected_workers)
        self._numbers = {unit.id: number for number, unit in enumerate(self.units)}

    def acquire(self, worker: str) -> Unit | Word:
        """The next unit for ``worker``, or why it gets none."""
        answer = self._dispatcher.acquire(worker)
        return self.units[answer.unit] if isinstance(answer, Lease) else answer

    def commit(self, unit_id: str, record: CommitRecord) -> None:
        """The unit's commit record exists."""
        number = self._numbers[unit_id]
        if number not in self._dispatcher.committed:
            self._tally.add(record.tally)
        self._dispatcher.commit(number)

    def heartbeat(self, worker: str, progress: Progress) -> None:
        self._workers[worker] = progress

    def engine_ready(self, worker: str, facts: EngineFacts) -> None:
        self._engines[worker] = facts

    def worker_lost(self, worker: str) -> list[str]:
        """Lease what ``worker`` held to others. Returns units that took too many workers along."""
        self._dispatcher.lost(worker)
        return [self.units[number].id for number in self._dispatcher.hopeless]

    def snapshot(self) -> Snapshot:
        return Snapshot(
            units=len(self.units),
            units_done=len(self._dispatcher.committed),
            committed=self._tally,
            workers=dict(self._workers),
            engines=dict(self._engines),
        )
