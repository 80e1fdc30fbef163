"""How long completions turn out: what was seen so far in this job, for what is still to come."""

from __future__ import annotations

_ENOUGH = 32  # observations before the seen lengths are believed
_REMEMBERED = 4096


class OutputLengths:
    """Observed completion lengths, in tokens, and a quantile of them."""

    def __init__(self) -> None:
        self._seen: list[int] = []
        self._next = 0
        self._sorted: list[int] = []
        self._fresh = 0

    def observe(self, tokens: int) -> None:
        """One more finished completion (the oldest is forgotten past 4,096)."""
        if len(self._seen) < _REMEMBERED:
            self._seen.append(tokens)
        else:
            self._seen[self._next] = tokens
            self._next = (self._next + 1) % _REMEMBERED
        self._fresh += 1

    def expected(self, max_tokens: int, quantile: float = 0.9) -> int:
        """The length to plan for: a quantile of those seen, ``max_tokens`` while few were."""
        if len(self._seen) < _ENOUGH:
            return max_tokens
        if self._fresh * 16 >= len(self._sorted):
            self._sorted = sorted(self._seen)
            self._fresh = 0
        return min(max_tokens, self._sorted[int(quantile * (len(self._sorted) - 1))])
