"""Gold rows, judged by fits that did not see them, and ranked among all rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.trust.acceptance import ranks
from pipeline.trust.arrays import Floats, Ints
from pipeline.trust.calibration import (
    FOLDS,
    ChoiceCalibration,
    cross_fits,
    decide,
    fit,
    uncalibrated,
)
from pipeline.trust.gold_sample import GoldSample
from pipeline.trust.shares import Moments


@dataclass(frozen=True)
class CrossFitted:
    """``labels``, ``confidences`` and ``ranks`` [gold rows], ``probabilities`` [gold rows,
    choices]: of gold rows, by fits that did not see them. ``all_labels``, ``all_confidences``
    [rows]: of all rows, by the ``calibration``, which saw all gold rows, as they are written to
    the dataset. ``rest``: the moments of each choice's probability over all rows but the random
    gold rows. ``unsettled``: the share of all rows, averaged over folds, in which the fold's fit
    gives another label than the ``calibration``."""

    calibration: ChoiceCalibration
    labels: Ints
    confidences: Floats
    ranks: Floats
    probabilities: Floats
    all_labels: Ints
    all_confidences: Floats
    rest: tuple[Moments, ...]
    unsettled: float

    @property
    def widened(self) -> float:
        """The variance of a cross-fitted share of right labels, as a multiple of what drawing rows
        alone would give. Another draw of gold rows would change some labels, and with them both
        what is measured and what is true. That adds about the share of rows to which two
        independent draws would give different labels (found in simulations,
        tests/bench/README.md). A fit without one of F folds is sqrt(2(F - 1)) times closer to the
        fit on all gold rows than the fits of two draws are to each other."""
        return 1 + math.sqrt(2 * (FOLDS - 1)) * self.unsettled


def cross_fit(
    log_probabilities: NDArray[np.floating], gold: GoldSample, calibrate: bool
) -> CrossFitted:
    """``log_probabilities``: of all rows [rows, choices]. If not ``calibrate``, the model's own
    probabilities are judged."""
    rows, choices = log_probabilities.shape
    own = log_probabilities[gold.rows]
    weights = gold.weights(rows)
    calibration = fit(own, gold.values, weights) if calibrate else uncalibrated(choices)
    decided = decide(calibration, log_probabilities)
    found = np.zeros((len(gold), choices))
    labels, confidences = np.zeros(len(gold), np.int64), np.zeros(len(gold))
    rank = np.zeros(len(gold))
    drawn = gold.rows[gold.random]
    rest = rows - len(drawn)
    means = np.zeros(choices)
    unsettled = 0.0
    parts = (
        cross_fits(own, gold.values, weights)
        if calibrate
        else [(np.ones(len(gold), bool), calibration)]
    )
    for inside, part in parts:
        by_part = decide(part, log_probabilities) if calibrate else decided
        found[inside] = part.apply(own[inside])
        labels[inside] = by_part.labels[gold.rows[inside]]
        confidences[inside] = by_part.confidences[gold.rows[inside]]
        rank[inside] = ranks(by_part.confidences, gold.rows[inside])
        others = by_part.sums - part.apply(log_probabilities[drawn]).sum(axis=0)
        share = inside.sum() / max(1, len(gold))
        means += share * others / max(1, rest)
        unsettled += share * float(np.sum(by_part.labels != decided.labels)) / max(1, rows)
    seen = calibration.apply(log_probabilities[drawn])
    mean = (decided.sums - seen.sum(axis=0)) / max(1, rest)
    variance = (decided.squares - np.sum(seen**2, axis=0)) / max(1, rest) - mean**2
    return CrossFitted(
        calibration,
        labels,
        confidences,
        rank,
        found,
        decided.labels,
        decided.confidences,
        tuple(
            Moments(rest, float(m), max(0.0, float(v)))
            for m, v in zip(means, variance, strict=True)
        ),
        float(unsettled),
    )
