"""Reports about long work: a line before each step, then its progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from pipeline.humanize import duration

Report = Callable[[str], None]
_QUIET_SECONDS = 5.0


class Steps(Protocol):
    """Where long work reports to."""

    def say(self, line: str) -> None:
        """A line about a step that begins, or something else worth knowing."""

    def progress(self, done: int, total: int) -> None:
        """How far the step is, in bytes. ``total`` 0: unknown."""


class LineSteps:
    """Plain lines, with the progress every few seconds: for logs, pipes and other reports."""

    def __init__(self, report: Report, clock: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._clock = clock
        self._last: tuple[float, int] | None = None  # time and byte of the last line

    def say(self, line: str) -> None:
        self._report(line)
        self._last = None

    def progress(self, done: int, total: int) -> None:
        now = self._clock()
        if self._last is None:
            self._last = (now, done)
            return
        seconds, more = now - self._last[0], done - self._last[1]
        if seconds >= _QUIET_SECONDS:
            self._last = (now, done)
            self._report(progress_text(done, total, more / seconds))


def after(start: int, total: int, progress: Callable[[int, int], None]) -> Callable[[int], None]:
    """The progress of one part of a whole, whose bytes come after the first ``start`` bytes."""
    return lambda done: progress(start + done, total)


def progress_text(done: int, total: int, bytes_per_second: float) -> str:
    """E.g. "1.2 of 3.2 GB (38 %), 45 MB/s, 44 s left"."""
    text = gigabytes(done)
    if total:
        number = f"{done / 1e9:.1f}" if total >= 1e9 else f"{done / 1e6:.0f}"
        text = f"{number} of {gigabytes(total)} ({100 * done // total} %)"
    if bytes_per_second > 0:
        text += f", {bytes_per_second / 1e6:.0f} MB/s"
        if total > done:
            text += f", {duration((total - done) / bytes_per_second)} left"
    return text


def gigabytes(number: float) -> str:
    """Bytes in units of 10**9 (or 10**6), as hubs and announcements give them."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
