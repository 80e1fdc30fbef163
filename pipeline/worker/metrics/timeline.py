"""What an engine did when: a few dozen intervals, however long the run is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

_FIRST_SECONDS = 0.5
_MOST = 64


@dataclass(frozen=True)
class TimelineInterval:
    """``start``: epoch seconds. ``batch`` (running requests), ``waiting`` (inside the engine) and
    ``kv_use`` (0..1) are means over time. The others are counts within the interval; completion
    tokens as they come, rows and their prompts' tokens as they end."""

    start: float
    seconds: float
    rows: float = 0.0
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0
    batch: float = 0.0
    waiting: float = 0.0
    kv_use: float = 0.0
    preemptions: float = 0.0
    recomputed_tokens: float = 0.0


_MEANS = ("batch", "waiting", "kv_use")
_COUNTS = tuple(
    f.name for f in fields(TimelineInterval) if f.name not in ("start", "seconds", *_MEANS)
)


class Timeline:
    """Collects steps into intervals; when there are too many, neighbours become one."""

    def __init__(self) -> None:
        self._intervals: list[TimelineInterval] = []
        self._length = _FIRST_SECONDS

    @property
    def intervals(self) -> tuple[TimelineInterval, ...]:
        return tuple(self._intervals)

    def add(self, step: TimelineInterval) -> None:
        """One more step, later than those before it."""
        last = self._intervals[-1] if self._intervals else None
        if last is not None and last.seconds + step.seconds <= self._length:
            self._intervals[-1] = merged([last, step])
            return
        self._intervals.append(step)
        if len(self._intervals) > _MOST:
            self._length *= 2
            pairs = [self._intervals[i : i + 2] for i in range(0, len(self._intervals), 2)]
            self._intervals = [merged(pair) for pair in pairs]


def merged(parts: Sequence[TimelineInterval]) -> TimelineInterval:
    """Neighbours as one: counts added, means weighed by time."""
    seconds = sum(p.seconds for p in parts)
    means = {
        name: sum(getattr(p, name) * p.seconds for p in parts) / seconds if seconds else 0.0
        for name in _MEANS
    }
    counts = {name: sum(getattr(p, name) for p in parts) for name in _COUNTS}
    return TimelineInterval(parts[0].start, seconds, **means, **counts)


def resampled(
    timelines: Iterable[Sequence[TimelineInterval]], count: int
) -> list[TimelineInterval]:
    """All engines together in ``count`` equal intervals from the first start to the last end.

    Counts and batches are added over the engines; KV use is the mean of those that work.
    """
    every = [i for timeline in timelines for i in timeline]
    if not every:
        return []
    start = min(i.start for i in every)
    length = (max(i.start + i.seconds for i in every) - start) / count
    made = []
    for number in range(count):
        low = start + number * length
        shares = [(i, _overlap(i, low, low + length)) for i in every]
        parts = [(i, s) for i, s in shares if s > 0]
        busy = sum(s for _, s in parts)
        counts = {n: sum(getattr(i, n) * s / i.seconds for i, s in parts) for n in _COUNTS}
        sums = {n: sum(getattr(i, n) * s for i, s in parts) for n in _MEANS}
        made.append(
            TimelineInterval(
                low,
                length,
                batch=sums["batch"] / length if length else 0.0,
                waiting=sums["waiting"] / length if length else 0.0,
                kv_use=sums["kv_use"] / busy if busy else 0.0,
                **counts,
            )
        )
    return made


def _overlap(interval: TimelineInterval, low: float, high: float) -> float:
    """Seconds of ``interval`` between ``low`` and ``high``."""
    return min(interval.start + interval.seconds, high) - max(interval.start, low)
