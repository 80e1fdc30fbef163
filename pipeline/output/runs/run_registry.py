"""Which runs work on an output folder: a small record that each run updates while it is alive.

    OUTPUT/_rackmill/runs/RUN.json    one run: machine, start, progress, state
    OUTPUT/_rackmill/cancel.json      asks the run that is alive to stop

These records only inform: a second run learns of the first, ``cancel`` reaches the run, ``status``
knows its progress. Only commit records say which rows are done, so two runs that did not see each
other still make the same, right dataset.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

import msgspec
import psutil

from pipeline.errors import AlreadyRunning
from pipeline.humanize import count, duration, plural
from pipeline.output.commit.records import CANCEL, RUNS
from pipeline.storage.base import Storage

BEAT_SECONDS = 2.0
PATIENCE_SECONDS = 30.0  # after the last heartbeat, for a run on another machine
_LOOK_SECONDS = 1.0
_CLOCK_SLACK = 5.0  # seconds by which a process's start may seem to move when clocks are set
_AT_WORK = ("running", "stopping")


class Life(Enum):
    """The condition of a run, from its record."""

    ALIVE = "alive"
    DEAD = "dead"  # it ended and could not record it
    ENDED = "ended"


@dataclass(frozen=True)
class RunRecord:
    """What a run reports about itself. Times in epoch seconds of its own machine.

    ``machine`` and ``pid_started`` distinguish its process from others with the same number;
    ``rows``: of the whole input; ``rows_done``: committed, also by earlier runs. ``state``:
    running, stopping, ended (the dataset is complete), stopped (on request), failed (see
    ``message``).
    """

    run: str
    host: str
    machine: str
    pid: int
    pid_started: float
    started: float
    beat: float
    state: str = "running"
    rows: int = 0
    rows_done: int = 0
    rows_per_second: float | None = None
    seconds_left: float | None = None
    failed: int = 0  # rows that became error rows in this run
    engines: int = 0  # loaded ones
    grace_seconds: float = 0.0  # for what is in flight when the run is asked to stop
    message: str = ""
    waiting: str = ""  # why no engine works at present
    watts: float | None = None  # of all working cards
    celsius: int | None = None  # of the hottest one
    slowed: int = 0  # cards slowed down by heat or by their hardware

    @property
    def path(self) -> str:
        return f"{RUNS}/{self.run}.json"

    def encode(self) -> bytes:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()

    def life(self, now: float | None = None) -> Life:
        """Whether the run is alive, as far as this machine can know at ``now``.

        On the same machine, this checks its process. On other machines only the time of its last
        heartbeat is known: after ``PATIENCE_SECONDS`` it counts as dead.
        """
        if self.state not in _AT_WORK:
            return Life.ENDED
        if self.machine == this_machine():
            return Life.ALIVE if _same_process(self.pid, self.pid_started) else Life.DEAD
        age = (time.time() if now is None else now) - self.beat
        return Life.ALIVE if age < PATIENCE_SECONDS else Life.DEAD

    @property
    def place(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def course(self) -> str:
        """The progress in words."""
        text = f"{count(self.rows_done)} of {plural(self.rows, 'row')} are committed"
        if self.seconds_left is not None:
            text += f", about {duration(self.seconds_left)} left"
        return text


def read_runs(storage: Storage) -> list[RunRecord]:
    """The records here, the newest run at the end. Unreadable records are left out."""
    found: list[RunRecord] = []
    for path, _ in storage.files(RUNS):
        if path.endswith(".json") and not path.rsplit("/", 1)[-1].startswith("."):
            record = read_run(storage, path)
            if record is not None:
                found.append(record)
    return sorted(found, key=lambda record: (record.started, record.run))


def read_run(storage: Storage, path: str) -> RunRecord | None:
    """The record at ``path``; None if it is gone or invalid."""
    content = storage.read(path)
    with suppress(ValueError):
        return None if content is None else msgspec.json.decode(content, type=RunRecord)
    return None


def live_runs(storage: Storage) -> list[RunRecord]:
    """The runs that work here now, as far as can be known without waiting."""
    return [record for record in read_runs(storage) if record.life() is Life.ALIVE]


def refuse_second(storage: Storage, note: Callable[[str], None] = lambda line: None) -> None:
    """Raise AlreadyRunning when another run works here.

    A run on another machine may have died in the last half minute: then this waits until its next
    heartbeat or the end of that time, and says so with ``note``.
    """
    doubtful: list[RunRecord] = []
    for record in live_runs(storage):
        if record.machine == this_machine():
            raise _already_running(record, storage)
        doubtful.append(record)
    if not doubtful:
        return
    heard = max(record.beat for record in doubtful)
    wait = min(PATIENCE_SECONDS, PATIENCE_SECONDS - (time.time() - heard))
    deadline = time.monotonic() + wait
    names = ", ".join(record.place for record in doubtful)
    note(f"{names} was at work here: waiting up to {wait:.0f} s to see whether it still is")
    while doubtful and time.monotonic() < deadline:
        time.sleep(min(_LOOK_SECONDS, max(0.0, deadline - time.monotonic())))
        for record in list(doubtful):
            seen = read_run(storage, record.path)
            if seen is None or seen.state not in _AT_WORK:
                doubtful.remove(record)
            elif seen.beat != record.beat:
                raise _already_running(seen, storage)


def _already_running(record: RunRecord, storage: Storage) -> AlreadyRunning:
    where = storage.address()
    doing = "is stopping" if record.state == "stopping" else "works"
    age = duration(max(0.0, time.time() - record.started))
    silent = time.time() - record.beat
    hints = []
    if silent > PATIENCE_SECONDS:  # its process exists here, and does nothing
        hints.append(
            f"it has given no sign for {duration(silent)}: it may be suspended "
            f"(kill -CONT {record.pid}) or hang (kill -9 {record.pid})"
        )
    return AlreadyRunning(
        f"another run {doing} on {where}: {record.place}, begun {age} ago, {record.course}",
        f"how far it is: rackmill status {where}",
        f"to stop it: rackmill stop {where}",
        *hints,
    )


@dataclass(frozen=True)
class CancelRequest:
    """A request that the live run stop. ``grace_seconds`` None: as in its job."""

    at: float = 0.0
    grace_seconds: float | None = None

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def cancel_request(storage: Storage) -> CancelRequest | None:
    """The request in this folder. An unreadable file counts as a request, too."""
    content = storage.read(CANCEL)
    if content is None:
        return None
    with suppress(ValueError):
        return msgspec.json.decode(content, type=CancelRequest)
    return CancelRequest()


@functools.cache
def this_machine() -> str:
    """Identifies the set of processes visible from here: not those of other machines, of containers
    on this one, or from before the last boot."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{platform.node()}/{psutil.boot_time():.0f}"


def own_process() -> tuple[int, float]:
    """Number and start (epoch seconds) of this process."""
    return os.getpid(), psutil.Process().create_time()


def _same_process(pid: int, started: float) -> bool:
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
        return abs(process.create_time() - started) < _CLOCK_SLACK
    except psutil.Error:
        return False
