"""Intervals of shares, from rows drawn at random or with known probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from pipeline.trust.arrays import Floats


@dataclass(frozen=True)
class Interval:
    """A share (0 to 1) and its bounds at the confidence that was asked for."""

    value: float
    low: float
    high: float


def wilson(
    right: float, rows: float, confidence: float = 0.95, population: float | None = None
) -> Interval:
    """Wilson's score interval (1927) of ``right`` of ``rows``; both may be fractional (effective
    rows). ``population``: the number of rows from which ``rows`` were drawn without replacement;
    the interval is for their share, and shrinks to a point if all were drawn."""
    if rows <= 0:
        return Interval(float("nan"), 0.0, 1.0)
    share = right / rows
    if population is not None:
        if rows >= population:
            return Interval(share, share, share)
        rows = rows * (population - 1) / (population - rows)
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    middle = (share * rows + z2 / 2) / (rows + z2)
    half = z2**0.5 / (rows + z2) * (rows * share * (1 - share) + z2 / 4) ** 0.5
    low = 0.0 if share == 0 else max(0.0, middle - half)
    return Interval(share, low, 1.0 if share == 1 else min(1.0, middle + half))


def clopper_pearson_upper(wrong: int, rows: int, confidence: float = 0.95) -> float:
    """The upper bound of the share of wrong rows if ``wrong`` of ``rows`` are: it is exceeded with
    probability 1 - ``confidence`` at most. Clopper's and Pearson's one-sided bound (1934)."""
    from scipy.special import betaincinv  # a quarter of a second to load

    if wrong >= rows:
        return 1.0
    return float(betaincinv(wrong + 1, rows - wrong, confidence))


def weighted_mean(
    values: Floats,
    inclusion_probabilities: Floats,
    widened: float = 1.0,
    population: float | None = None,
) -> Interval:
    """The mean over all rows, from the ``values`` (0 to 1) of rows drawn with these probabilities:
    Hájek's estimate (1971), sum(v/p) / sum(1/p), with its variance by linearisation (Särndal,
    Swensson and Wretman 1992, 5.7). The interval is Wilson's for the number of simple random rows
    that would have this variance, but never more than there are; the normal interval would be a
    point if all values are equal. ``widened``: a factor on the variance of the draw.
    ``population``: as in ``wilson``. A row drawn with probability p keeps the part 1 - p of its
    variance; the mean of that by squared weights is 1 - Kish's number of rows / all rows."""
    rows = len(values)
    if not rows:
        return Interval(float("nan"), 0.0, 1.0)
    weights = 1 / np.asarray(inclusion_probabilities, dtype=float)
    total = float(np.sum(weights))
    mean = float(np.sum(weights * values)) / total
    kish = total**2 / float(np.sum(weights**2))
    variance = float(np.sum((weights * (values - mean)) ** 2)) / total**2 * rows / max(1, rows - 1)
    alike = mean * (1 - mean) / variance if variance > 0 else kish
    alike = min(alike, float(rows)) / widened
    of = None if population is None else population * alike / kish
    return wilson(mean * alike, alike, population=of)
