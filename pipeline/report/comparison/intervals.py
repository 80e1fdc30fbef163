"""Intervals and tests for shares of rows. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """``part`` of ``whole``, with the bounds of its 95 % interval."""

    part: int
    whole: int

    @property
    def value(self) -> float:
        return self.part / self.whole if self.whole else math.nan

    @property
    def bounds(self) -> tuple[float, float]:
        """Wilson's interval (1927), which stays within 0..1 and also holds for few rows."""
        from pipeline.trust.intervals import wilson  # brings SciPy

        between = wilson(self.part, self.whole)
        return between.low, between.high

    def as_json(self) -> dict[str, float | int]:
        low, high = self.bounds
        return {
            "right": self.part,
            "rows": self.whole,
            "value": self.value,
            "low": low,
            "high": high,
        }


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact test (two-sided): the probability of a split at least this uneven, among
    pairs in which only one judge is right, if both judges are equally good."""
    from scipy.special import bdtr  # half a second to load

    both = only_first + only_second
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), both, 0.5)))
