"""The engine that stays loaded, from the side of whoever asks it.

Its process (``warm_engine``) says the key of what is loaded, then is sent an ``EngineStart``, an
``AskedRows``, or None: to end at once. It answers with lines to be said, and in the end with the
results (None: the engine is loaded), or the error.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

import psutil

from pipeline.errors import EngineFailed, RackmillError, UsageError
from pipeline.job.job import Job
from pipeline.output.columns.results import RowResult
from pipeline.worker.answer_rows import Row, RowPlace

_SOCKET, _LOG, _LOCK, _PID = "engine.sock", "engine.log", "lock", "pid"
_BUSY_SECONDS, _POLITE_SECONDS = 600.0, 2.0  # another one may be loading it, or has a thousand rows
_LONGEST = 70  # bytes of the folder: a socket's address has 108 bytes at most
_START_SECONDS = 60.0
_POLL_SECONDS = 0.05
_END_SECONDS = 20.0
_started: list[subprocess.Popen[bytes]] = []  # else Python would complain that they run on


@dataclass(frozen=True)
class EngineStart:
    """How an engine for ``job`` is to be started: its arguments, its process's variables, its
    cards."""

    job: Job
    arguments: Mapping[str, Any]
    environment: Mapping[str, str]
    cards: tuple[int, ...]


@dataclass(frozen=True)
class AskedRows:
    """Rows to be answered as ``job`` says."""

    job: Job
    rows: Sequence[Row]
    places: Sequence[RowPlace]


def engine_key(job: Job) -> str:
    """Jobs with the same one are answered by the same engine: all that an edited prompt leaves as
    it is."""
    label = job.label
    content = {
        "model": str(Path(job.model).absolute()) if Path(job.model).exists() else job.model,
        "engine": job.engine.model_dump(mode="json"),
        "score": job.score.model_dump(mode="json") if job.score else None,
        # vLLM reads from its configuration which backend is to hold answers to it
        "schema": label.json_schema if label else None,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class WarmEngine:
    """The one of this user on this machine; there is none, or one."""

    def __init__(self, folder: Path | None = None) -> None:
        """``folder``: where its socket lies; None: the usual place."""
        usual = tempfile.gettempdir()
        root = usual if len(os.fsencode(usual)) < _LONGEST else "/tmp"
        self.folder = folder or Path(root) / f"rackmill-{os.getuid()}"
        self._socket = self.folder / _SOCKET

    def key(self) -> str | None:
        """What is loaded; None where no engine is, or one that says nothing in time."""
        connection = self._connect()
        if connection is None:
            return None
        with connection:
            return self._first(connection, _BUSY_SECONDS) or None

    def end(self) -> bool:
        """Have it give its card back; False where there was none. Returns when it is gone; one that
        is at something is not waited for."""
        connection = self._connect()
        if connection is None:
            return False
        with connection, suppress(OSError, EOFError):
            if self._first(connection, _POLITE_SECONDS) is not None:
                connection.send(None)
                connection.poll(_END_SECONDS)  # until its side is closed
        self._kill()
        self._socket.unlink(missing_ok=True)
        return True

    def _first(self, connection: Connection, seconds: float) -> str | None:
        """The key of what is loaded, empty for nothing; None where it does not say so in time: it
        is at something."""
        if not connection.poll(seconds):
            return None
        with suppress(Exception):  # gone, or left by another version, whose words cannot be read
            key = connection.recv()
            return key if isinstance(key, str) else None
        return None

    def _kill(self) -> None:
        """What has not ended by itself. Its guard ends what it has started."""
        with suppress(OSError, ValueError, psutil.Error):
            process = psutil.Process(int((self.folder / _PID).read_text()))
            if "pipeline.driver.trial.warm_engine" in process.cmdline():
                process.kill()
        for started in _started:
            with suppress(subprocess.TimeoutExpired):
                started.wait(_END_SECONDS)

    def start(self, start: EngineStart, say: Callable[[str], None]) -> None:
        """Load an engine for jobs like that one, unless somebody else has just done it. Raises
        EngineFailed, and what keeps a model from being had."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._check_folder()
        with (self.folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.key() != engine_key(start.job):
                self.end()
                self._start(start, say)

    def _start(self, start: EngineStart, say: Callable[[str], None]) -> None:
        self._socket.unlink(missing_ok=True)
        with (self.folder / _LOG).open("wb") as log:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "pipeline.driver.trial.warm_engine",
                    str(self._socket),
                ],
                env={**os.environ, **start.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _started.append(process)
        (self.folder / _PID).write_text(str(process.pid))
        connection = self._wait(process)
        with connection:
            connection.recv()
            connection.send(start)
            self._hear(connection, say)

    def answer(self, job: Job, rows: Sequence[Row], places: Sequence[RowPlace]) -> list[RowResult]:
        """Raises EngineFailed."""
        connection = self._connect()
        if connection is None:
            raise self._died()
        with connection:
            connection.recv()
            connection.send(AskedRows(job, rows, places))
            answered: list[RowResult] = self._hear(connection, lambda line: None)
            return answered

    def _hear(self, connection: Connection, say: Callable[[str], None]) -> Any:
        """What comes back in the end."""
        while True:
            try:
                message = connection.recv()
            except (OSError, EOFError):
                raise self._died() from None
            if isinstance(message, RackmillError):
                raise message
            if not isinstance(message, str):
                return message
            say(message)

    def _died(self) -> EngineFailed:
        return EngineFailed("the engine died", f"what it said is in {self.folder / _LOG}")

    def _wait(self, process: subprocess.Popen[bytes]) -> Connection:
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and process.poll() is None:
            connection = self._connect()
            if connection is not None:
                return connection
            time.sleep(_POLL_SECONDS)
        raise self._died()

    def _connect(self) -> Connection | None:
        if not self.folder.exists():
            return None
        self._check_folder()  # whoever else could have made it may have it answer with anything
        try:
            return Client(str(self._socket), family="AF_UNIX")
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError:
            raise UsageError(f"{self._socket} belongs to somebody else") from None

    def _check_folder(self) -> None:
        """Raises UsageError where others than this user could open the folder."""
        there = self.folder.lstat()
        own = stat.S_ISDIR(there.st_mode) and there.st_uid == os.getuid()
        if not own or there.st_mode & 0o077:
            raise UsageError(
                f"{self.folder} is not this user's alone",
                "remove it, or set TMPDIR to another folder",
            )


def make_room(note: Callable[[str], None]) -> None:
    """End the engine that stayed loaded, for a run that needs its card, and say so."""
    try:
        if WarmEngine().end():
            note("the engine that stayed loaded for rackmill try makes room")
    except UsageError as e:  # somebody else's: it is not ours to end
        note(e.message)
