"""Made-up models whose answers are known to the last digit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from pipeline.trust.gold_sample import GoldSample


def world(
    rows: int, *, leaning: tuple[float, ...] = (1.5, -1.5), sure: float = 1.7, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Log-probabilities [rows, choices] of a model that leans towards some choices and is too sure
    of itself (``sure`` times), and the true choices [rows]."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, len(leaning), rows)
    signal = random.normal(size=(rows, len(leaning)))
    signal[np.arange(rows), truth] += 2
    return log_softmax(sure * (2 * signal + np.array(leaning)), axis=1), truth


def drawn(truth: NDArray[np.int64], gold: int, seed: int = 0) -> GoldSample:
    rows = np.random.default_rng(seed).choice(len(truth), gold, replace=False)
    return GoldSample.at_random(rows, truth[rows])
