"""How often each choice is true over all rows: what gold rows say, made more precise by what the
model says of all the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from pipeline.trust.intervals import Interval, wilson

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Mean and variance (of single rows, divided by their number) of so many rows."""

    rows: int
    mean: float
    variance: float


@dataclass(frozen=True)
class PoweredMean:
    """A mean and the variance of its error. ``weight``: how much the predictions count, 0 to 1."""

    value: float
    variance: float
    weight: float

    def interval(self, confidence: float = 0.95) -> Interval:
        """The normal interval, as the method's authors give it."""
        half = float(ndtri((1 + confidence) / 2)) * self.variance**0.5
        return Interval(self.value, self.value - half, self.value + half)


def powered_mean(gold: Floats, predicted: Floats, rest: Moments) -> PoweredMean:
    """Prediction-powered inference of a mean with the weight of least variance (PPI++;
    Angelopoulos, Duchi and Zrnic 2023): ``gold`` [rows], what was ``predicted`` of the same rows,
    and the predictions of the ``rest``, which have no gold."""
    n, m = len(gold), rest.rows
    own = Moments(n, float(predicted.mean()), float(predicted.var()))
    squares = n * own.variance + m * rest.variance + n * m / (n + m) * (own.mean - rest.mean) ** 2
    together = float(np.mean((gold - gold.mean()) * (predicted - own.mean)))
    weight = 0.0
    if m and squares > 0:
        weight = min(1.0, max(0.0, together / ((1 + n / m) * squares / (n + m - 1))))
    return _weighted(gold, predicted, rest, weight)


def _weighted(gold: Floats, predicted: Floats, rest: Moments, weight: float) -> PoweredMean:
    left = gold - weight * predicted
    of_rest = weight**2 * rest.variance / rest.rows if rest.rows else 0.0
    variance = float(left.var()) / len(gold) + of_rest
    return PoweredMean(weight * rest.mean + float(left.mean()), variance, weight)


def _beyond_chance(gold: Floats, predicted: Floats) -> float:
    """How much of a weight is more than what predictions that know nothing would get by chance, 0
    to 1: 1 - 1/F with the F of a regression, as James and Stein (1961) shrink."""
    both = float(gold.std() * predicted.std())
    if both <= 0:
        return 0.0
    explained = float(np.mean((gold - gold.mean()) * (predicted - predicted.mean())) / both) ** 2
    left = max(0.0, 1 - explained) / (len(gold) - 2)
    return max(0.0, 1 - left / explained) if explained > 0 else 0.0


def powered_share(
    gold: NDArray[np.bool_], predicted: Floats, rest: Moments, confidence: float = 0.95
) -> Interval:
    """The share of all rows, with gold and without, for which something is true: as
    ``powered_mean``, with as much of its weight as is more than chance, and Wilson's interval for
    as many rows drawn at random as would be as precise (the normal interval is too narrow for
    shares near 0 and 1, and reaches beyond). Of predictions that know nothing: gold's alone."""
    n = len(gold)
    if not n:
        return Interval(float("nan"), 0.0, 1.0)
    truth = gold.astype(float)
    alone = wilson(float(truth.sum()), n, confidence, population=n + rest.rows)
    if not rest.rows or n < 3:
        return alone
    weight = powered_mean(truth, predicted, rest).weight * _beyond_chance(truth, predicted)
    if weight <= 0:
        return alone
    found = _weighted(truth, predicted, rest, weight)
    share = min(1.0, max(0.0, found.value))
    # Few gold rows of a good model show too few of its mistakes: never less than the spread that
    # its own probabilities expect, nor more than that of gold alone. The weight was fitted to the
    # same rows; all rows are no sample.
    expected = max(0.0, rest.mean * (1 - rest.mean) - rest.variance)
    variance = max(found.variance, expected / n) * n / (n - 2)
    variance = min(variance, float(truth.var()) / (n - 1)) * rest.rows / (n + rest.rows)
    spread = share * (1 - share)
    if variance <= 0 or spread <= 0:
        return Interval(share, min(share, alone.low), max(share, alone.high))
    return wilson(share * spread / variance, spread / variance, confidence)
