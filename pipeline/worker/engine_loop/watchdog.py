"""Whether an engine still moves. One that does not is useless, and still holds its card."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from pipeline.humanize import duration

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0


class Watchdog:
    """Any thread reports what moves; ``bark`` is called once, from a thread of its own, when
    something took too long. That thread runs only while the interpreter lets it: if an engine
    blocks the interpreter itself, heartbeats end too, and the driver sees that."""

    def __init__(
        self, bark: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bark = bark
        self._clock = clock
        self._expected: tuple[str, float, float] | None = None  # what, since when, seconds
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def expect(self, what: str, seconds: float) -> None:
        """Something must move within ``seconds`` from now; ``what`` is the message if it does
        not."""
        self._expected = (what, self._clock(), seconds)

    def rest(self) -> None:
        """Nothing needs to move."""
        self._expected = None

    def overdue(self) -> str | None:
        """What took too long, in words."""
        expected = self._expected
        if expected is None:
            return None
        what, since, seconds = expected
        return f"{what} for {duration(seconds)}" if self._clock() - since >= seconds else None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(_LOOK_SECONDS):
            why = self.overdue()
            if why is not None:
                _log.error("the engine hangs: %s", why)
                self._bark(why)
                return
