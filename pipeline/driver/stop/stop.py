"""The wish that a run stops, from whoever has it: Ctrl-C, SIGTERM, ``rackmill stop``, a program.

A run is stopped gracefully while it works: what its engines have begun is finished, within a
grace time, and committed. At any other time there is nothing to finish, and it ends at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Stop:
    """May be asked for from any thread, and from a signal handler."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._grace: float | None = None
        self.by = ""  # who asked; empty for Ctrl-C, which needs no explanation
        # whether someone looks at this now and then, and would stop the run gracefully
        self.heeded = False

    def ask(self, grace_seconds: float | None = None, by: str = "") -> None:
        """Have the run stop. ``grace_seconds``: for what is in flight, None as its job says;
        ``by``: who asks, in a few words. Asking again changes nothing but the grace."""
        if grace_seconds is not None:
            self._grace = grace_seconds
        if not self.asked:
            self.by = by
        self._asked.set()

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    def grace(self, usual: float) -> float:
        """Seconds for what is in flight."""
        return usual if self._grace is None else self._grace

    def wait(self, seconds: float) -> bool:
        """Whether it is asked for, within ``seconds`` at the latest."""
        return self._asked.wait(seconds)

    @contextmanager
    def being_heeded(self) -> Iterator[None]:
        self.heeded = True
        try:
            yield
        finally:
            self.heeded = False
