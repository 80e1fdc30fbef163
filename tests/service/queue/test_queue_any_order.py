"""The queue and everything that can befall it in any order: jobs are submitted and stopped, drivers
end with any code or die, machines come and go, the queue is killed between any two steps and made
anew, the head is away for a moment, Ray is started again. A job never has two drivers, a card is
never two jobs', and in the end every job has ended, once."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.cluster.rack_state.allocation import AllocatedCards, Needs
from pipeline.cluster.rack_state.gcs import HeadGone
from pipeline.service.queue.drivers import RayGone
from pipeline.service.queue.job_db import JobState, SubmittedJob
from tests.service.queue.a_rack import TURN, QueueOnRack, machine
from tests.support.samples import quick

_MOST_JOBS = 5
_MOST_ROUNDS = 60
_CODES = [0, 0, 3, 1, 2, 75, 130, -9, None]
_MACHINES = [
    [],
    [machine("a", "rtx4090")],
    [machine("a", "rtx4090", "rtx4090")],
    [machine("a", "rtx4090"), machine("b", "rtx3060")],
]


class _Killed(BaseException):
    """The queue's process is no more."""


class AnyOrder(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.patch = pytest.MonkeyPatch()
        self.rack = QueueOnRack(self.folder / "queue.db", self.patch)
        self.names: list[str] = []
        self.ended: dict[str, SubmittedJob] = {}
        self.clean = False  # whether the queue has just looked, and was not interrupted

    # -- what people do

    @precondition(lambda self: len(self.names) < _MOST_JOBS)
    @rule(
        priority=st.sampled_from([0, 0, 1]),
        workers=st.sampled_from(["auto", 1]),
        lasts=st.none() | st.floats(1.0, 2 * TURN),
        gpu=st.sampled_from([None, None, "rtx3060"]),
    )
    def submit(self, priority: int, workers: object, lasts: float | None, gpu: str | None) -> None:
        name = f"job-{len(self.names)}"
        deadline = None if lasts is None else self.rack.now + lasts
        resources = {"workers": workers} | ({"gpu": gpu} if gpu else {})
        self.names.append(self.rack.submit(name, priority, deadline, resources=resources))
        self.clean = False

    @precondition(lambda self: self.names)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        job = self.rack.job(data.draw(st.sampled_from(self.names)))
        if not job.state.ended:  # as the queue answers
            self.rack.ledger.stop(job)
            self.clean = False

    # -- what drivers do

    @precondition(lambda self: self.rack.drivers.alive)
    @rule(data=st.data(), code=st.sampled_from(_CODES))
    def end(self, data: st.DataObject, code: int | None) -> None:
        self.rack.end(self.at_work(data), code)

    @precondition(lambda self: self.rack.drivers.alive)
    @rule(data=st.data(), most=st.none() | st.integers(1, 3), useless=st.booleans())
    def say(self, data: st.DataObject, most: int | None, useless: bool) -> None:
        job = self.at_work(data)
        cards = frozenset({("a", 0)} if useless else ())
        AllocatedCards(self.rack.gcs, job).say(Needs(most, cards))

    def at_work(self, data: st.DataObject) -> str:
        return self.rack.drivers.jobs[data.draw(st.sampled_from(self.rack.drivers.alive))]

    @rule()
    def obey(self) -> None:
        """Who was told that it has no card ends."""
        for driver in self.rack.drivers.alive:
            job = self.rack.drivers.jobs[driver]
            if not self.rack.cards(job):
                self.rack.end(job, 130)

    # -- what the queue does, and what befalls it

    @rule(passed=st.floats(0.0, TURN))
    def look(self, passed: float) -> None:
        self.rack.look(passed)
        self.clean = True

    @rule(
        steps=st.integers(0, 25),
        accident=st.sampled_from([_Killed, HeadGone, RayGone]),
        passed=st.floats(0.0, TURN),
    )
    def look_interrupted(self, steps: int, accident: type[BaseException], passed: float) -> None:
        left = steps

        def moment() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise accident("now")

        self.rack.moment = moment
        try:
            self.rack.look(passed)
        except (HeadGone, RayGone):
            self.clean = False
        except _Killed:
            self.rack.restart()
            self.clean = False
        self.rack.moment = lambda: None

    @rule()
    def restart(self) -> None:
        self.rack.restart()

    @rule()
    def restart_ray(self) -> None:
        self.rack.restart_ray()
        self.clean = False

    @rule(machines=st.sampled_from(_MACHINES))
    def come_and_go(self, machines: list[object]) -> None:
        self.rack.machines = list(machines)  # type: ignore[arg-type]
        self.clean = False

    # -- what holds

    @invariant()
    def a_job_has_one_driver_at_most_and_the_ledger_knows_it(self) -> None:
        if hasattr(self, "rack"):
            for driver in self.rack.drivers.alive:
                job = self.rack.job(self.rack.drivers.jobs[driver])
                assert (job.state, job.submission) == (JobState.RUNNING, driver)

    @invariant()
    def what_has_ended_stays_as_it_ended(self) -> None:
        if hasattr(self, "rack"):
            for job in self.rack.ledger.jobs():
                assert self.ended.get(job.id, job) == job
                if job.state.ended:
                    self.ended[job.id] = job

    @invariant()
    def a_card_is_one_jobs_at_most(self) -> None:
        if hasattr(self, "rack") and self.clean:
            running = [j for j in self.rack.ledger.open_jobs() if j.state is JobState.RUNNING]
            told = [card for job in running for card in self.rack.cards(job.id)]
            assert len(told) == len(set(told))
            there = {(m.node.id, n) for m in self.rack.machines for n in range(m.cards)}
            assert set(told) <= there

    def teardown(self) -> None:
        """From now on all goes well: every job ends."""
        if not hasattr(self, "rack"):
            return
        rack = self.rack
        rack.machines = list(_MACHINES[-1])
        try:
            for _ in range(_MOST_ROUNDS):
                rack.look(60.0)
                for driver in rack.drivers.alive:
                    job = rack.drivers.jobs[driver]
                    rack.end(job, 0 if rack.cards(job) else 130)
                self.what_has_ended_stays_as_it_ended()
            assert sorted(self.ended) == sorted(self.names)
            assert rack.ledger.open_jobs() == []
            assert rack.drivers.alive == []
        finally:
            self.patch.undo()
            shutil.rmtree(self.folder)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(quick, max_examples=20, stateful_step_count=40)
