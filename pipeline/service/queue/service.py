"""The queue of a rack: it takes submitted jobs, divides the cards among them, starts their drivers
and handles their ends. It runs on the head and may be killed at any moment: all it knows is in its
database, and drivers go on without it."""

from __future__ import annotations

import logging
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from pipeline.cluster.rack_state.allocation import (
    OTHERS,
    Allocation,
    Needs,
    allot,
    allotted_to,
    forget,
    needs_of,
)
from pipeline.cluster.rack_state.gcs import Gcs, HeadGone
from pipeline.cluster.rack_state.machines import Machine, machines
from pipeline.engine.machine.facts import own_versions
from pipeline.errors import NoCard, RackmillError, Stopped, UsageError
from pipeline.service.queue.allocator import Allocator
from pipeline.service.queue.api import QueueApi
from pipeline.service.queue.drivers import Drivers, DriverState, RayGone, log_tail
from pipeline.service.queue.job_db import JobDb, JobState, SubmittedJob
from pipeline.service.queue.mailbox import Mailbox
from pipeline.service.queue.progress_poller import ProgressPoller
from pipeline.service.queue.unsubmitted_runs import UnsubmittedRuns, say_that_there_is_a_queue
from pipeline.service.rack.ray_node import RayNode
from pipeline.user_folder import state_folder

_FILE = "queue.db"
_log = logging.getLogger(__name__)
_ASKED_SECONDS, _LOOK_SECONDS = 0.2, 1.0
_MOST_CRASHES = 3
_NO_CARD = "no machine of the rack has what it asks for: rackmill rack show"
_WAITS = "outside of its hours: it waits"
_DONE = (0, 3)  # 3: some rows failed
_EXPLAINED = (1, 2)
_STOP, _DEADLINE = "rackmill stop", "its deadline"


class Queue:
    """``now``: epoch seconds."""

    def __init__(
        self,
        db: JobDb,
        drivers: Drivers,
        allocator: Allocator,
        address: str,
        say: Callable[[str], None] = lambda line: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._db, self._drivers, self._allocator = db, drivers, allocator
        self._address, self._say, self._now = address, say, now
        self._told: dict[str, Allocation] = {}
        self._progress = ProgressPoller()
        self._mailbox = Mailbox(QueueApi(db, self._progress, now))
        self._unsubmitted = UnsubmittedRuns()
        self._adopted = False
        self._looked = 0.0

    def keep(self, stop: threading.Event) -> None:
        """Work until ``stop``. While the head does not answer, wait for it."""
        gcs: Gcs | None = None
        said = ""
        while not stop.wait(_ASKED_SECONDS):
            try:
                gcs = gcs or Gcs(self._address)
                self._mailbox.look(gcs)
                if time.monotonic() - self._looked >= _LOOK_SECONDS:
                    self.look(gcs)
                    self._looked = time.monotonic()
                said = ""
            except Exception as e:  # nothing may end the queue; the next look tries again
                if isinstance(e, HeadGone) and gcs is not None:
                    gcs.close()
                    gcs = None
                line = e.message if isinstance(e, RackmillError) else f"{type(e).__name__}: {e}"
                if line != said:
                    _log.warning("%s", line)
                    self._say(f"queue: {line}")
                said = line
                stop.wait(_LOOK_SECONDS)
        self._progress.close()

    def look(self, gcs: Gcs) -> None:
        """Handle ended jobs, deal the cards again, start jobs that got some. Raises HeadGone,
        RayGone."""
        now = self._now()
        there = machines(gcs)
        self._refuse_what_nobody_understands()
        say_that_there_is_a_queue(gcs)
        self._adopt(gcs, now)
        self._see_unsubmitted_end(gcs)
        self._see_ends(gcs, self._drivers.states())
        jobs = self._db.open_jobs()
        for job in jobs:
            if job.state is JobState.PENDING and (job.stop_asked or self._is_late(job)):
                self._give_up(job)
        jobs = [job for job in self._db.open_jobs() if not self._is_leaving(job)]
        needs = needs_of(gcs, [job.id for job in jobs if job.state is JobState.RUNNING])
        self._deal(gcs, jobs, there, needs, now)
        running = [job for job in self._db.open_jobs() if job.state is JobState.RUNNING]
        for job in running:
            if self._stopping(job):
                self._tell(gcs, job, Allocation(why=_STOP if job.stop_asked else _DEADLINE))
        self._progress.follow({job.id: job.output for job in running})

    def _refuse_what_nobody_understands(self) -> None:
        """Jobs that another version of rackmill took: they must not block the others."""
        for job in self._db.open_jobs():
            try:
                self._allocator.learn(job)
            except UsageError as e:
                self._db.end(job, JobState.FAILED, self._now(), e.message, e.exit_code)

    def _adopt(self, gcs: Gcs, now: float) -> None:
        """Take over what an earlier queue gave to drivers that are still at work."""
        if self._adopted:
            return
        running = [j for j in self._db.open_jobs() if j.state is JobState.RUNNING]
        for job in running:
            allotment = allotted_to(gcs, job.id)
            if allotment is not None:
                self._told[job.id] = allotment
                self._allocator.adopt(job, allotment.cards, now)
        self._adopted = True

    def _deal(
        self,
        gcs: Gcs,
        jobs: Sequence[SubmittedJob],
        there: Sequence[Machine],
        needs: Mapping[str, Needs],
        now: float,
    ) -> None:
        for job_id, cards in self._allocator.deal(jobs, there, needs, now).items():
            job = next(one for one in jobs if one.id == job_id)
            if job.state is JobState.RUNNING:
                self._tell(gcs, job, Allocation(cards, "" if cards else OTHERS))
            elif cards:
                self._start(gcs, job, Allocation(cards))
            elif (until := self._allocator.closed_until(job_id)) is not None:
                self._db.note(job, f"{_WAITS} until {until}")
            elif self._allocator.is_hopeless(job_id):
                self._db.note(job, _NO_CARD)
            elif job.message == _NO_CARD or job.message.startswith(_WAITS):
                self._db.note(job, "")

    def _start(self, gcs: Gcs, job: SubmittedJob, allotment: Allocation) -> None:
        self._tell(gcs, job, allotment)
        begun = self._db.start(job, self._now())
        command = [sys.executable, "-P", "-m", "pipeline.cli.main", "drive", job.id]
        command += ["--state", str(self._db.path), "--address", self._address]
        about = {"rackmill_job": job.id, "name": job.name}
        try:
            self._drivers.start(begun.submission, command, about)
        except RayGone as e:  # it may have started all the same: the next look shows it
            self._db.note(begun, e.message)
            raise
        cards = len(allotment.cards)
        _log.info("%s begins, with %d cards", job.id, cards)
        self._say(f"queue: {job.id} begins, {cards} {'card' if cards == 1 else 'cards'}")

    def _tell(self, gcs: Gcs, job: SubmittedJob, allotment: Allocation) -> None:
        if self._told.get(job.id) != allotment:
            allot(gcs, job.id, allotment)
            self._told[job.id] = allotment

    def _see_ends(self, gcs: Gcs, states: Mapping[str, DriverState]) -> None:
        for job in self._db.open_jobs():
            if job.state is not JobState.RUNNING or job.guest:
                continue
            state = states.get(job.submission)
            if state is None:
                why = job.message or "Ray does not know its driver (any more)"
                self._db.back(job, why)
            elif state.ended:
                self._conclude(job, state)
            else:
                self._db.note(job, "")  # it is running: a note on a failed start is wrong
                continue
            self._told.pop(job.id, None)
            forget(gcs, job.id)
            ended = self._db.job(job.id)
            if ended.state.ended:
                self._allocator.forget(job.id)
            _log.info("%s %s: %s", job.id, ended.state, ended.message)
            self._say(f"queue: {job.id} {ended.state}{f': {m}' if (m := ended.message) else ''}")

    def _see_unsubmitted_end(self, gcs: Gcs) -> None:
        """Unsubmitted runs that left, and those that sent no sign of life for too long."""
        unsubmitted = [job for job in self._db.open_jobs() if job.guest]
        for job_id in self._unsubmitted.gone(gcs, [job.id for job in unsubmitted]):
            job = self._db.job(job_id)
            self._db.end(job, JobState.FAILED, self._now(), "nothing is heard of it any more")
        for job_id in self._told.keys() - {job.id for job in self._db.open_jobs()}:
            del self._told[job_id]
            self._allocator.forget(job_id)
            self._unsubmitted.forget(gcs, job_id)
            forget(gcs, job_id)

    def _conclude(self, job: SubmittedJob, state: DriverState) -> None:
        """Note how a job's driver ended."""
        code, now, db = state.code, self._now(), self._db
        allotment = self._told.get(job.id)
        parked = allotment is not None and not allotment.cards
        if code in _DONE:
            db.end(job, JobState.SUCCEEDED, now, "", code)
        elif code not in _EXPLAINED and self._stopping(job):
            self._give_up(job)
        elif code == NoCard.exit_code or (code == Stopped.exit_code and parked):
            db.back(job, "others are at work on its cards")
        elif code == Stopped.exit_code:
            db.end(job, JobState.STOPPED, now, "it was asked to stop", code)
        elif code in _EXPLAINED:
            db.end(job, JobState.FAILED, now, log_tail(job.submission), code)
        elif job.crashes >= _MOST_CRASHES:
            message = f"its driver died {job.crashes + 1} times: {state.message or f'code {code}'}"
            db.end(job, JobState.FAILED, now, message, code)
        else:
            db.back(job, "its driver died and is replaced", crashed=True)

    def _give_up(self, job: SubmittedJob) -> None:
        """End a job that must not go on and has no driver."""
        if job.stop_asked:
            self._db.end(job, JobState.STOPPED, self._now(), "it was asked to stop", 130)
        else:
            self._db.end(job, JobState.FAILED, self._now(), "its deadline passed", 1)

    def _is_leaving(self, job: SubmittedJob) -> bool:
        """Whether it must stop, or its driver was told that it has no cards and will end."""
        told = self._told.get(job.id)
        ends = told is not None and not told.cards and not job.guest
        return self._stopping(job) or ends

    def _stopping(self, job: SubmittedJob) -> bool:
        return job.stop_asked or self._is_late(job)

    def _is_late(self, job: SubmittedJob) -> bool:
        return job.deadline is not None and self._now() > job.deadline


def keep_queue(
    node: RayNode, turn_seconds: float, say: Callable[[str], None], stop: threading.Event
) -> None:
    """Keep the queue until ``stop``. ``node``: this machine, which is the head."""
    try:
        db = JobDb(state_folder() / _FILE)
    except RackmillError as e:
        say(f"no queue: {e.message} {' '.join(e.hints)}")
        return
    drivers = Drivers(node.address, node.dashboard)
    Queue(db, drivers, Allocator(turn_seconds, own_versions()), node.address, say).keep(stop)


def jobs_left() -> int:
    """How many submitted jobs of this machine's queue have not ended: they go on when the rack is
    started again. 0 if there is no queue, or it cannot be read."""
    path = state_folder() / _FILE
    if not path.exists():
        return 0
    try:
        return sum(not job.guest for job in JobDb(path).open_jobs())
    except (RackmillError, sqlite3.Error):
        return 0
