"""How often each choice is true over all rows: estimated from gold rows, and made more precise by
the model's predictions for all other rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.trust.arrays import Bools, Floats
from pipeline.trust.intervals import Interval, wilson


@dataclass(frozen=True)
class Moments:
    """The mean of ``rows`` rows, and their variance (of single rows, divided by ``rows``)."""

    rows: int
    mean: float
    variance: float


@dataclass(frozen=True)
class PoweredMean:
    """A mean and the variance of its error. ``weight``: how much the predictions count, 0 to 1."""

    value: float
    variance: float
    weight: float


def powered_mean(gold: Floats, predicted: Floats, rest: Moments) -> PoweredMean:
    """Prediction-powered inference of a mean with the weight of least variance (PPI++;
    Angelopoulos, Duchi and Zrnic 2023), from ``gold`` [rows], what was ``predicted`` for the same
    rows, and the moments of the predictions for the ``rest``, which have no gold."""
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
    """The part of a weight, 0 to 1, that exceeds what useless predictions would get by chance:
    1 - 1/F with the F of a regression, the shrinkage of James and Stein (1961)."""
    both = float(gold.std() * predicted.std())
    if both <= 0:
        return 0.0
    explained = float(np.mean((gold - gold.mean()) * (predicted - predicted.mean())) / both) ** 2
    left = max(0.0, 1 - explained) / (len(gold) - 2)
    return max(0.0, 1 - left / explained) if explained > 0 else 0.0


def powered_share(gold: Bools, predicted: Floats, rest: Moments) -> Interval:
    """The share of all rows, with and without gold, for which something is true. As
    ``powered_mean``, but only with the part of its weight that exceeds chance, and with Wilson's
    interval for the number of random rows that would be as precise (the normal interval is too
    narrow near 0 and 1, and reaches beyond them). If predictions are useless: from gold alone."""
    n = len(gold)
    if not n:
        return Interval(float("nan"), 0.0, 1.0)
    truth = gold.astype(float)
    alone = wilson(float(truth.sum()), n, population=n + rest.rows)
    if not rest.rows or n < 3:
        return alone
    weight = powered_mean(truth, predicted, rest).weight * _beyond_chance(truth, predicted)
    if weight <= 0:
        return alone
    found = _weighted(truth, predicted, rest, weight)
    share = min(1.0, max(0.0, found.value))
    # Few gold rows of a good model show too few of its mistakes. So the variance is never less than
    # its own probabilities predict, nor more than from gold alone. n - 2: the weight was fitted to
    # the same rows. The last factor: a sample of all rows would have no error.
    expected = max(0.0, rest.mean * (1 - rest.mean) - rest.variance)
    variance = max(found.variance, expected / n) * n / (n - 2)
    variance = min(variance, float(truth.var()) / (n - 1)) * rest.rows / (n + rest.rows)
    spread = share * (1 - share)
    if variance <= 0 or spread <= 0:
        return Interval(share, min(share, alone.low), max(share, alone.high))
    return wilson(share * spread / variance, spread / variance)
