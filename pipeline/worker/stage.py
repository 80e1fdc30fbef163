"""A thread of a worker: it reads, looks answers up, writes, or sends heartbeats."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Stage(threading.Thread):
    """A thread whose failure is raised where it is joined, and not lost. Until it has ended, no one
    knows whether it will fail."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._trouble: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as e:
            self._trouble = e

    def check(self) -> None:
        """Raise what ended the stage, if anything did."""
        if self._trouble is not None:
            raise self._trouble
