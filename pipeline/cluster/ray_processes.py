"""The processes that a Ray of our own starts end with it.

Ray ends its daemons one after the other, and some (the agents of its nodes) have to notice that
their parent is gone, which takes seconds, or many if they had just been started. An agent whose
parent is dead has no parent of ours any more. So all of them are identified by a mark in their
environment, which child processes inherit. A process that is just starting has no environment yet,
but it has a parent; or, if that is dead too, its environment appears a moment later.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from types import TracebackType

import psutil

_MARK = "RACKMILL_RAY"
_GRACE_SECONDS = 0.5  # for processes that end by themselves
_KERNEL = 2  # kthreadd, the parent of kernel threads
_LOOKS, _LOOK_SECONDS = 20, 0.01  # checks of a process that has no environment yet


class RayProcesses:
    """The processes of a Ray that starts within this context. They are ended if starting fails, for
    any reason including an interruption, or when ``end`` is called."""

    def __init__(self) -> None:
        self._mark = secrets.token_hex(8)
        self._since = time.time() - 1.0  # start times of processes are only exact to 0.01 s

    def __enter__(self) -> None:
        os.environ[_MARK] = self._mark

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        os.environ.pop(_MARK, None)
        if kind is not None:
            self.end(0.0)

    def end(self, grace_seconds: float = _GRACE_SECONDS) -> None:
        """Kill those that do not end within the grace, so that none starts another meanwhile."""
        psutil.wait_procs(self._there(), timeout=grace_seconds)
        stopped: set[psutil.Process] = set()
        while new := self._there() - stopped:
            for process in new:
                with suppress(psutil.Error):  # it has ended
                    process.suspend()
            stopped |= new
        for process in stopped:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(stopped, timeout=_GRACE_SECONDS)

    def _there(self) -> set[psutil.Process]:
        found = set()
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # it has ended, or is another user's
                if process.pid != os.getpid() and self._carries_mark(process):
                    found.add(process)
        for process in list(found):
            with suppress(psutil.Error):
                found.update(process.children(recursive=True))
        return found

    def _carries_mark(self, process: psutil.Process) -> bool:
        """At first a process has no environment; kernel threads never have one."""
        environment = process.environ()
        for _ in range(_LOOKS):
            if environment or process.create_time() < self._since or process.ppid() == _KERNEL:
                break
            time.sleep(_LOOK_SECONDS)
            environment = process.environ()
        return environment.get(_MARK) == self._mark
