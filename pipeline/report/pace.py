"""How fast a run is now, and how long the rest of it will take."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pipeline.worker.coordination.messages import Progress

_WINDOW_SECONDS = 15.0
_ROWS_FOR_AN_ESTIMATE = 16


class Pace:
    """Rates over the last quarter of a minute."""

    def __init__(self) -> None:
        self._history: deque[tuple[float, int, int]] = deque()  # (when, rows, tokens)

    def note(self, now: float, workers: Iterable[Progress]) -> bool:
        """Note totals at ``now`` (seconds on any monotonic clock). Returns whether any of the
        workers has begun."""
        totals = list(workers)
        if not any(t.first_step for t in totals):
            # rates count from here: rows may be finished when they are first heard of
            self._history = deque([(now, 0, 0)])
            return False
        # generated tokens count as they come, those of copied answers when their row is finished
        tokens = sum(t.prompt_tokens + max(t.completion_tokens, t.generated) for t in totals)
        self._history.append((now, sum(t.rows for t in totals), tokens))
        while now - self._history[0][0] > _WINDOW_SECONDS:
            self._history.popleft()
        return True

    @property
    def rows(self) -> int:
        """Rows that the workers have finished, committed or not."""
        return self._history[-1][1] if self._history else 0

    @property
    def rows_per_second(self) -> float:
        return self._rate(1)

    @property
    def tokens_per_second(self) -> float:
        return self._rate(2)

    def seconds_for(self, rows: int) -> float | None:
        """How long ``rows`` rows take; None as long as that would be a guess."""
        if rows <= 0 or not self._history:
            return None
        if self._history[-1][1] - self._history[0][1] < _ROWS_FOR_AN_ESTIMATE:
            return None
        return rows / self.rows_per_second

    def _rate(self, column: int) -> float:
        if not self._history:
            return 0.0
        first, last = self._history[0], self._history[-1]
        seconds = last[0] - first[0]
        return (last[column] - first[column]) / seconds if seconds else 0.0
