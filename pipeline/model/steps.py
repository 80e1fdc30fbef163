"""Saying what is going on while something takes long: a line before each step, then how far."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

Report = Callable[[str], None]
_QUIET_SECONDS = 5.0


class Steps(Protocol):
    """Where long work reports to."""

    def say(self, line: str) -> None:
        """A step begins, or something is worth knowing."""

    def progress(self, done: int, total: int) -> None:
        """How far the step is, bytes. ``total`` 0: unknown."""


class LineSteps:
    """Plain lines, the progress every few seconds: for logs, pipes and reports of other kinds."""

    def __init__(self, report: Report, clock: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._clock = clock
        self._start: tuple[float, int] | None = None  # when, bytes that were there already
        self._last = 0.0

    def say(self, line: str) -> None:
        self._report(line)
        self._start = None

    def progress(self, done: int, total: int) -> None:
        now = self._clock()
        if self._start is None:
            self._start, self._last = (now, done), now
        elif now - self._last >= _QUIET_SECONDS:
            self._last = now
            began, first = self._start
            rate = (done - first) / (now - began) if now > began else 0.0
            self._report(progress_text(done, total, rate))


def after(start: int, total: int, progress: Callable[[int, int], None]) -> Callable[[int], None]:
    """The progress of one part of a whole: its bytes come after the ``start`` first ones."""
    return lambda done: progress(start + done, total)


def progress_text(done: int, total: int, bytes_per_second: float) -> str:
    """E.g. "1.2 of 3.2 GB (38 %), 45 MB/s, 44 s left"."""
    text = gigabytes(done)
    if total:
        text = f"{done / 1e9:.1f} of {gigabytes(total)} ({done / total:.0%})".replace("%", " %")
    if bytes_per_second > 0:
        text += f", {bytes_per_second / 1e6:.0f} MB/s"
        if total > done:
            text += f", {(total - done) / bytes_per_second:.0f} s left"
    return text


def gigabytes(number: float) -> str:
    """Bytes in units of 10**9 (or 10**6), as hubs and announcements give them."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
