"""A run's log beside its output, written by every process that works for it.

    OUTPUT/_rackmill/logs/RUN.WORKER.PROCESS.NUMBER.jsonl

Storage may be an object store, where nothing can be appended: a process keeps its lines in memory
and rewrites its current file every few seconds and soon after a warning; when the file has reached
``PIECE_BYTES``, the next number follows. No run fails, or waits for long, because its log cannot be
written.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pipeline.errors import RackmillError
from pipeline.logs import ROOT, Context, LogLine
from pipeline.output.commit.records import LOGS, is_temporary
from pipeline.storage.base import Storage, open_storage

DRIVER, COORDINATOR = "driver", "coordinator"
PIECE_BYTES = 256 << 10
MOST_BYTES = 8 << 20  # of one process, beside the output; at most as much waits to be written
KEPT_RUNS = 3
_EVERY_SECONDS = 5.0
_SOON_SECONDS = 0.2
_CLOSING_SECONDS = 5.0
_TROUBLES = (OSError, RackmillError, ValueError)
_WHERE = "output.runs.run_log"
_UNSAFE = re.compile(r"[^\w-]+")


def new_run() -> str:
    """A name for a run; names sort by time."""
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(4)


@dataclass(frozen=True)
class LogPlace:
    """Where the processes of a run write their logs: the output's address and the run's name."""

    output: str
    run: str


class RunLog(logging.Handler):
    """Takes what this process logs inside ``with``. Keeps it in memory until ``open`` sets the
    place."""

    def __init__(
        self, run: str, worker: str, *, most_bytes: int = MOST_BYTES, piece_bytes: int = PIECE_BYTES
    ) -> None:
        """``worker``: the name for lines that do not have one."""
        super().__init__(logging.DEBUG)
        self.run, self._worker = run, worker
        self._pieces = max(1, most_bytes // piece_bytes)
        self._most_bytes, self._piece_bytes = most_bytes, piece_bytes
        self._path = f"{LOGS}/{run}.{_UNSAFE.sub('_', worker)}.{secrets.token_hex(3)}"
        self._storage: Storage | None = None
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = self._lost = 0
        self._piece, self._number = b"", 0
        self._before = logging.NOTSET, True  # earlier settings of our logger
        self._guard = threading.Lock()  # for what waits
        self._writing = threading.Lock()
        self._wake, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._live, name="log", daemon=True)
        self.addFilter(Context(run, worker))

    @property
    def opened(self) -> bool:
        """Whether the log is written beside the output."""
        return self._storage is not None

    def open(self, storage: Storage) -> None:
        """Write all lines to this output, earlier ones too. ``storage`` must never wait."""
        if self._storage is None:
            self._storage = storage
            self._thread.start()

    def open_at(self, output: str) -> None:
        """As ``open``, at an address. If it is not valid, nothing is written."""
        with suppress(*_TROUBLES):
            self.open(open_storage(output, patience_seconds=0))

    def __enter__(self) -> Self:
        ours = logging.getLogger(ROOT)
        others = _attached()
        self._before = others[0]._before if others else (ours.level, ours.propagate)
        ours.setLevel(logging.DEBUG)
        ours.propagate = False  # see emit
        ours.addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        ours = logging.getLogger(ROOT)
        ours.removeHandler(self)
        if not _attached():
            level, ours.propagate = self._before
            ours.setLevel(level)
        self.finish()

    def finish(self, seconds: float = _CLOSING_SECONDS) -> None:
        """Write what is left, if possible within this time, and nothing later."""
        self._ending.set()
        self._wake.set()
        if self._storage is not None:
            self._thread.join(seconds)

    def emit(self, record: logging.LogRecord) -> None:
        if threading.current_thread() is self._thread:
            return  # storage's own messages about the log
        try:
            line = LogLine.of(record).encode()
        except Exception:
            return  # better lose a line than show Python's own report on the user's terminal
        with self._guard:
            self._waiting.append(line)
            self._waiting_bytes += len(line)
            while self._waiting_bytes > self._most_bytes:
                self._waiting_bytes -= len(self._waiting.popleft())
                self._lost += 1
        if record.levelno >= logging.WARNING:
            self._wake.set()
        root = logging.getLogger()  # of a program with its own logging setup
        if root.handlers and record.levelno >= root.level:
            root.callHandlers(record)

    def _live(self) -> None:
        while not self._ending.is_set():
            self._wake.wait(_EVERY_SECONDS)
            self._ending.wait(_SOON_SECONDS if self._wake.is_set() else 0.0)  # more may follow
            self._wake.clear()
            self.write()
        self.write()

    def write(self) -> None:
        """Write all that waits."""
        storage = self._storage
        if storage is None:
            return
        with self._writing:
            while lines := self._next():
                content = self._piece + b"".join(lines)
                try:
                    storage.replace(f"{self._path}.{self._number:05}.jsonl", content)
                except Exception:  # a store's library may raise anything; the next try may work
                    self._put_back(lines)
                    return
                self._piece = content
                if len(content) >= self._piece_bytes:
                    self._begin_piece(storage)

    def _next(self) -> list[bytes]:
        """Lines for the piece, as many as fit into it, at least one."""
        with self._guard:
            if self._lost:
                said = f"{self._lost} lines are missing here: storage could not be written"
                first = LogLine.decode(self._waiting[0]) if self._waiting else None
                at = time.time() if first is None else first.at
                line = LogLine(at, "WARNING", self._worker, "", _WHERE, said)
                self._waiting.appendleft(line.encode())
                self._waiting_bytes += len(self._waiting[0])
                self._lost = 0
            size = len(self._piece)
            lines: list[bytes] = []
            while self._waiting and (not lines or size < self._piece_bytes):
                lines.append(self._waiting.popleft())
                size += len(lines[-1])
                self._waiting_bytes -= len(lines[-1])
            return lines

    def _put_back(self, lines: list[bytes]) -> None:
        with self._guard:
            self._waiting.extendleft(reversed(lines))
            self._waiting_bytes += sum(map(len, lines))

    def _begin_piece(self, storage: Storage) -> None:
        self._piece, self._number = b"", self._number + 1
        oldest = self._number - self._pieces
        if oldest >= 0:
            with suppress(Exception):
                storage.delete(f"{self._path}.{oldest:05}.jsonl")


def _attached() -> list[RunLog]:
    handlers = logging.getLogger(ROOT).handlers
    return [handler for handler in handlers if isinstance(handler, RunLog)]


def forget_old_runs(storage: Storage, kept: int = KEPT_RUNS) -> None:
    """Delete the logs of all runs except the last ones. Raises StorageFailed."""
    paths = storage.names(LOGS)
    old = sorted({_run_of(path) for path in paths})[:-kept]
    for path in paths:
        if _run_of(path) in old:
            storage.delete(path)


def logged_runs(storage: Storage) -> list[str]:
    """The runs with logs here, the last one at the end. Raises StorageFailed."""
    return sorted({_run_of(path) for path, _ in _pieces(storage)})


class LogReader:
    """Reads the logs of runs while they may still grow."""

    def __init__(self, storage: Storage, runs: Iterable[str]) -> None:
        self._storage, self._runs = storage, frozenset(runs)
        self._sizes: dict[str, int] = {}
        self._seen: dict[str, int] = {}  # bytes of each file that were read

    def new_lines(self) -> list[LogLine]:
        """Lines of all processes since the last call, sorted by time. Raises StorageFailed."""
        grown = [
            path
            for path, size in _pieces(self._storage)
            if _run_of(path) in self._runs and self._sizes.get(path) != size
        ]
        found: list[LogLine] = []
        for path, content in zip(grown, self._storage.read_many(grown), strict=True):
            if content is None:
                continue  # the oldest piece of a long log, deleted just now
            self._sizes[path] = len(content)
            new = content[self._seen.get(path, 0) :]
            self._seen[path] = len(content)
            found += [line for one in new.splitlines() if (line := LogLine.decode(one))]
        return sorted(found, key=lambda line: line.at)


def _pieces(storage: Storage) -> list[tuple[str, int]]:
    return [(path, size) for path, size in storage.files(LOGS) if not is_temporary(path)]


def _run_of(path: str) -> str:
    return path.rsplit("/", 1)[-1].partition(".")[0]
