"""Several writers of one storage, one storage call at a time, in whatever order a test chooses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_PATIENCE_SECONDS = 30.0
_MOST_CALLS = 64  # that a writer makes at once, from threads of its own


class Killed(BaseException):
    """The process is no more: not an Exception, so that nothing catches it."""


class Writer:
    """A process that writes, as a thread that stops before each of its storage calls."""

    def __init__(self, work: Callable[[Any], None], storage: Any) -> None:
        """``work`` gets ``storage`` as this writer reaches it."""
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self._kill: str | None = None  # before, or after the call has taken effect
        self._abandoned = False
        self._trouble: BaseException | None = None
        self.ended = False
        self._work = work
        self._storage = storage
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._wait()

    def step(self, kill: str | None = None) -> None:
        """Let it do one storage call, and go on to the next. Raises what ended it, unless it was
        ``kill``ed: "before" the call, or "after" it took effect."""
        self._kill = kill
        self._go.release()
        self._wait()
        if self._trouble is not None and not isinstance(self._trouble, Killed):
            raise self._trouble

    def abandon(self) -> None:
        """The test is over, perhaps in its middle: whatever waits for its turn ends."""
        self._abandoned = True
        self._go.release(_MOST_CALLS)

    def _wait(self) -> None:
        assert self._stopped.acquire(timeout=_PATIENCE_SECONDS)

    def _run(self) -> None:
        try:
            self._work(_Stepwise(self._storage, self._call))
        except BaseException as e:
            self._trouble = e
        finally:
            self.ended = True
            self._stopped.release()

    def _call(self, call: Callable[[], Any]) -> Any:
        self._stopped.release()
        if not self._abandoned:
            self._go.acquire()
        if self._abandoned or self._kill == "before":
            raise Killed
        result = call()
        if self._kill == "after":
            raise Killed
        return result


@contextmanager
def writers() -> Iterator[list[Writer]]:
    """A list for writers: none of them outlives it."""
    found: list[Writer] = []
    try:
        yield found
    finally:
        for writer in found:
            writer.abandon()


class _Stepwise:
    """A storage whose every call waits for its turn."""

    def __init__(self, storage: Any, turn: Callable[[Callable[[], Any]], Any]) -> None:
        self._storage = storage
        self._turn = turn

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._storage, name)
        if name == "address" or not callable(found):
            return found
        return lambda *a, **k: self._turn(lambda: found(*a, **k))
