"""How far probabilities are from the outcomes: reliability, calibration error, Brier score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.trust.arrays import Bools, Floats, Ints

_BINS = 10


@dataclass(frozen=True)
class Bin:
    """Rows whose confidence is between ``low`` and ``high``. ``confidence``: their mean
    confidence; ``right``: the share of them that is right."""

    low: float
    high: float
    rows: int
    confidence: float
    right: float


def reliability(confidence: Floats, right: Bools) -> list[Bin]:
    """The reliability curve: bins of equal width that hold rows (DeGroot and Fienberg 1983)."""
    of = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    return [
        Bin(
            k / _BINS,
            (k + 1) / _BINS,
            int(np.sum(of == k)),
            float(confidence[of == k].mean()),
            float(right[of == k].mean()),
        )
        for k in range(_BINS)
        if np.any(of == k)
    ]


def calibration_error(confidence: Floats, right: Bools) -> float:
    """The expected calibration error (Naeini et al. 2015): the difference between confidence and
    share of right rows, bin by bin, weighted by rows. 0 to 1; nan without rows. With few rows, some
    error appears by chance alone."""
    if not len(confidence):
        return float("nan")
    apart = [one.rows * abs(one.confidence - one.right) for one in reliability(confidence, right)]
    return sum(apart) / len(confidence)


def brier(probabilities: Floats, gold: Ints) -> float:
    """The Brier score (1950): the mean squared distance between the probabilities [rows, choices]
    and the truth. 0 (sure and right) to 2 (sure and wrong); nan without rows."""
    if not len(gold):
        return float("nan")
    apart = probabilities.copy()
    apart[np.arange(len(gold)), gold] -= 1
    return float(np.mean(np.sum(apart**2, axis=1)))
