"""A rack for the queue without Ray: machines, drivers and a clock that are set by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.budget.cards.lookup import find_card
from pipeline.cluster.rack_state.allocation import Key, allotted_to
from pipeline.cluster.rack_state.gcs import Node
from pipeline.cluster.rack_state.machines import Machine
from pipeline.engine.gpu.nvml import DeviceFacts
from pipeline.engine.machine.facts import MachineFacts, own_versions
from pipeline.output.runs.job_file import job_content
from pipeline.service.queue import service
from pipeline.service.queue.allocator import Allocator
from pipeline.service.queue.drivers import DriverState
from pipeline.service.queue.job_db import JobDb, JobState, SubmittedJob
from pipeline.service.queue.service import Queue
from tests.service.queue.memory_gcs import MemoryGcs
from tests.support.samples import job

TURN = 600.0
CARDS = ("rtx4090", "rtx4090")
_VERSIONS = own_versions()


def machine(name: str, *cards: str) -> Machine:
    """One with such cards, that works."""
    devices = tuple(
        DeviceFacts(card.title, card.vram_bytes, card.compute_capability)
        for card in map(find_card, cards)
    )
    facts = MachineFacts(name, devices, (0, 1), 16 << 30, "a processor", (), _VERSIONS)
    resources = {"CPU": 2.0, "GPU": float(len(cards))}
    return Machine(Node(name, name, "10.0.0.1", True, False, resources), facts)


def content(name: str, **changes: Any) -> dict[str, Any]:
    """Of the file of a job that writes to a place of its own."""
    return job_content(job(**{"name": name, "output": {"path": f"/{name}"}} | changes))


class FakeDrivers:
    """Ray's job submission: those of its drivers that were started, and how they are."""

    def __init__(self, moment: Callable[[], None]) -> None:
        self.all: dict[str, DriverState] = {}
        self.jobs: dict[str, str] = {}
        self._moment = moment

    def start(self, submission: str, command: Sequence[str], about: Mapping[str, str]) -> None:
        self._moment()
        self.all.setdefault(submission, DriverState(ended=False))  # Ray takes a name once
        self.jobs[submission] = about["rackmill_job"]
        self._moment()

    def states(self) -> dict[str, DriverState]:
        self._moment()
        return dict(self.all)

    @property
    def alive(self) -> list[str]:
        return [name for name, state in self.all.items() if not state.ended]


class _Ledger(JobDb):
    """One during whose writing things may happen."""

    moment: Callable[[], None] = staticmethod(lambda: None)

    def _set(self, job: SubmittedJob, **values: object) -> None:
        self.moment()
        super()._set(job, **values)
        self.moment()


class _NoCourses:
    def follow(self, outputs: Mapping[str, str]) -> None: ...

    def of(self, job: str) -> None: ...

    def close(self) -> None: ...


class QueueOnRack:
    """``moment``: is called between any two steps of the queue, and may raise."""

    def __init__(self, path: Path, patch: pytest.MonkeyPatch) -> None:
        self._path = path
        self.now = 1000.0
        self.moment: Callable[[], None] = lambda: None
        self.said: list[str] = []
        self.machines = [machine("a", *CARDS)]
        self.gcs: Any = MemoryGcs(self._pass)
        self.drivers = FakeDrivers(self._pass)
        patch.setattr(service, "machines", lambda gcs: self.machines)
        patch.setattr(service, "ProgressPoller", _NoCourses)
        patch.setattr(service, "log_tail", lambda submission: f"last words of {submission}")
        self.restart()

    def _pass(self) -> None:
        self.moment()

    def restart(self) -> None:
        """As after a kill: the queue knows nothing but its file, and what the head keeps."""
        self.ledger = _Ledger(self._path)
        self.ledger.moment = self._pass
        standings = Allocator(TURN, _VERSIONS)
        self.queue = Queue(
            self.ledger,
            self.drivers,
            standings,
            self.gcs.address,
            self.said.append,
            lambda: self.now,
        )

    def restart_ray(self) -> None:
        """Its drivers die with it, and what it kept is gone."""
        self.drivers.all.clear()
        self.gcs.values.clear()

    def submit(
        self, name: str, priority: int = 0, deadline: float | None = None, **changes: Any
    ) -> str:
        """A job's id."""
        self.ledger.add(
            SubmittedJob(
                name, name, priority, content(name, **changes), f"/{name}", None, self.now, deadline
            )
        )
        return name

    def look(self, after: float = 0.0) -> None:
        self.now += after
        self.queue.look(self.gcs)

    def job(self, name: str) -> SubmittedJob:
        return self.ledger.job(name)

    def state(self, name: str) -> JobState:
        return self.job(name).state

    def stop(self, name: str) -> None:
        self.ledger.stop(self.job(name))

    def cards(self, name: str) -> set[Key]:
        """Those that its driver is told of."""
        allotment = allotted_to(self.gcs, name)
        return set() if allotment is None else set(allotment.cards)

    def why(self, name: str) -> str:
        """Why its driver is told to stop."""
        allotment = allotted_to(self.gcs, name)
        return "" if allotment is None else allotment.why

    def driver(self, name: str) -> str | None:
        """The one that is alive."""
        alive = [d for d in self.drivers.alive if self.drivers.jobs[d] == name]
        assert len(alive) <= 1, f"{alive} are at work on one job"
        return alive[0] if alive else None

    def end(self, name: str, code: int | None) -> None:
        """The driver that is alive ends."""
        driver = self.driver(name)
        assert driver is not None, f"nobody is at work on {name}"
        said = "" if code is not None else "it was killed"
        self.drivers.all[driver] = DriverState(True, code, said)


def run(rack: QueueOnRack, name: str = "one") -> None:
    """A job that is at work."""
    rack.submit(name)
    rack.look()
    assert rack.driver(name)
