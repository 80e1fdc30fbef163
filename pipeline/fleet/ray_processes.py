"""What a Ray of our own starts ends with it.

Ray ends its daemons one after the other, and leaves it to some (the agents of its nodes) to see
that their parent is gone, which takes seconds, or many where they were just being started.
"""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType

import psutil

_GRACE_SECONDS = 0.5  # for those that end by themselves


class RayProcesses:
    """The descendants that this process gets while a Ray starts: ended with it where that fails,
    for whatever reason, an interruption among them, or when ``end`` is called."""

    def __init__(self) -> None:
        self._before = _descendants()
        self._seen: set[psutil.Process] = set()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.note()
            self.end(0.0)

    def note(self) -> None:
        """To be called while their parents live: those of the dead are nobody's descendants."""
        self._seen |= _descendants() - self._before

    def end(self, grace_seconds: float = _GRACE_SECONDS) -> None:
        """Kill those that do not end within the grace, so that none starts another meanwhile."""
        psutil.wait_procs(self._seen, timeout=grace_seconds)
        stopped: set[psutil.Process] = set()
        while new := self._seen - stopped:
            for process in new:
                with suppress(psutil.Error):  # it has ended
                    process.suspend()
            stopped |= new
            self.note()
        for process in stopped:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(stopped, timeout=_GRACE_SECONDS)


def _descendants() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))
