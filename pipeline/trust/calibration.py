"""Calibrated probabilities, fitted to a few true labels.

Platt's scaling (1999) for any number of choices: softmax(slope · log p + the choice's intercept).
The slope corrects too much or too little confidence, the intercepts a bias for some choices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from pipeline.trust.arrays import Bools, Floats, Ints

LEAST_GOLD = 20  # rows; with fewer a fit may do harm
FOLDS = 10

# A model's zero is an underflow: it must not outvote all other rows.
_LEAST_LOG = float(np.log(1e-12))
# Standard deviations of the priors of slope (mean 1) and intercepts (mean 0); the gold rows decide
# which are used. Some conversions of the demo's model are right in 96 % of the rows that they are
# 72 % sure of, which needs a slope of 4. One model's intercepts are off by 3, another's not at all
# (0: no intercepts, every label stays); with hundreds of choices few gold rows say little of each.
_SLOPE_SDS = (0.5, 2.0)
_INTERCEPT_SDS = (0.0, 0.1, 0.3, 1.0, 3.0)
# Intercepts change labels, a slope does not. So the fit that holds them closest to 0 is taken,
# unless the gold rows are more than twice as likely under another: if a model has no bias,
# intercepts that few rows suggest by chance only do harm (tests/bench/README.md, Promises).
_TWICE = math.log(2)
_CLOSE = 1e-6
_DIGITS = 9  # decimals; the last bits of a fit depend on the processor
_BLOCK = 1 << 22  # numbers per block


@dataclass(frozen=True)
class ChoiceCalibration:
    """``slope``: 0 or more; 1 changes nothing. ``intercepts``: one per choice, their sum is 0."""

    slope: float
    intercepts: tuple[float, ...]

    def apply(self, log_probabilities: NDArray[np.floating]) -> Floats:
        """Calibrated probabilities [rows, choices] from the model's log-probabilities of the same
        shape (natural; they may be off by a constant per row, or be minus infinity)."""
        scores = _columns(log_probabilities)
        scores *= self.slope
        scores += np.array(self.intercepts)[:, None]
        return _exponentiated(scores)[0].T


def uncalibrated(choices: int) -> ChoiceCalibration:
    """The calibration that leaves the model's probabilities as they are."""
    return ChoiceCalibration(1.0, (0.0,) * choices)


@dataclass(frozen=True)
class Decided:
    """What a calibration makes of all rows. ``labels`` [rows]: the likeliest choice, the first of
    equals; ``confidences`` [rows]: its probability to 12 decimals (the last bits depend on the
    processor). ``sums`` and ``squares`` [choices]: of each choice's probability, and of its square,
    the sum over all rows."""

    labels: Ints
    confidences: Floats
    sums: Floats
    squares: Floats


def decide(calibration: ChoiceCalibration, log_probabilities: NDArray[np.floating]) -> Decided:
    """Decide all rows [rows, choices], block by block: never are all probabilities in memory."""
    rows, choices = log_probabilities.shape
    labels, confidences = np.empty(rows, np.int64), np.empty(rows)
    sums, squares = np.zeros(choices), np.zeros(choices)
    step = max(1, _BLOCK // choices)
    for start in range(0, rows, step):
        block = slice(start, start + step)
        probabilities = calibration.apply(log_probabilities[block]).T
        labels[block] = probabilities.argmax(axis=0)
        confidences[block] = probabilities.max(axis=0).round(12)
        sums += probabilities.sum(axis=1)
        squares += np.sum(probabilities**2, axis=1)
    return Decided(labels, confidences, sums, squares)


def why_no_fit(gold: Ints) -> str | None:
    """Why a fit on these true labels would be worthless; None if a fit is possible."""
    if len(gold) < LEAST_GOLD:
        return f"{len(gold)} gold rows, a fit needs {LEAST_GOLD}: {LEAST_GOLD - len(gold)} more"
    if len(np.unique(gold)) < 2:
        return "all gold rows have the same label: a fit needs two"
    return None


def fit(
    log_probabilities: NDArray[np.floating], gold: Ints, weights: Floats | None = None
) -> ChoiceCalibration:
    """The likeliest calibration given ``gold`` [rows] (the index of the true choice) and the
    ``log_probabilities`` [rows, choices] of the same rows. ``weights``: how many rows each stands
    for (the inverse of its inclusion probability); only their proportions count, and rows with
    unequal weights count as fewer rows (Kish 1965)."""
    each = _each_expectation(_columns(log_probabilities), gold, weights)
    return _best(each)


def folds(log_probabilities: NDArray[np.floating]) -> Ints:
    """The fold, of ``FOLDS``, of each gold row [rows]. Folds depend on what the model says of the
    rows, not on their order: rows are sorted by it and dealt in a fixed shuffled order. Folds are
    not stratified by true label: that would make them easier than new rows are."""
    order = np.lexsort(_columns(log_probabilities)[::-1])
    of = np.empty(len(order), np.int64)
    of[order] = np.random.default_rng(0).permutation(len(order)) % FOLDS
    return of


def cross_fits(
    log_probabilities: NDArray[np.floating], gold: Ints, weights: Floats | None = None
) -> Iterator[tuple[Bools, ChoiceCalibration]]:
    """For each fold, which gold rows [rows] are in it, and the fit on all others."""
    of = folds(log_probabilities)
    logs = _columns(log_probabilities)
    starts = [found for found, _ in _each_expectation(logs, gold, weights)]  # close to each fit
    for fold in range(FOLDS):
        inside = of == fold
        if inside.any():
            rest = ~inside
            some = None if weights is None else weights[rest]
            yield inside, _best(_each_expectation(logs[:, rest], gold[rest], some, starts))


def _columns(log_probabilities: NDArray[np.floating]) -> Floats:
    """Normalised, with a floor of 1e-12 for each probability. [choices, rows]: with few choices
    numpy sums over the first axis ten times as fast as over the last."""
    logs = np.array(log_probabilities.T, dtype=float, order="C")
    highest = logs.max(axis=0, initial=-np.inf)
    logs[:, ~np.isfinite(highest)] = 0.0
    return np.maximum(_normalised(np.maximum(logs, 2 * _LEAST_LOG + highest)), _LEAST_LOG)


def _normalised(scores: Floats) -> Floats:
    """Log-probabilities [choices, rows] of finite scores."""
    scores = scores - scores.max(axis=0)
    return np.asarray(scores - np.log(np.sum(np.exp(scores), axis=0)))


def _exponentiated(scores: Floats) -> tuple[Floats, Floats]:
    """Probabilities [choices, rows] of finite scores, in place; and the log-sum-exp of each row's
    scores [rows]."""
    highest = scores.max(axis=0)
    scores -= highest
    np.exp(scores, out=scores)
    sums = scores.sum(axis=0)
    scores /= sums
    return scores, highest + np.log(sums)


def _each_expectation(
    logs: Floats, gold: Ints, weights: Floats | None, starts: Sequence[Floats] = ()
) -> list[tuple[Floats, float]]:
    """The likeliest slope and intercepts, and their evidence, for each pair of prior deviations;
    pairs that keep intercepts closest to 0 come first. ``starts``: where each search begins, which
    changes only the time it takes."""
    choices, rows = logs.shape
    weight = np.ones(rows) if weights is None else np.asarray(weights, dtype=float)
    weight = weight * weight.sum() / np.sum(weight**2)
    logs = np.ascontiguousarray(logs)
    found: list[tuple[Floats, float]] = []
    start = _expected(1.0, choices)
    for number, (intercept, slope) in enumerate(product(_INTERCEPT_SDS, _SLOPE_SDS)):
        precision = np.array([slope**-2] + [intercept**-2] * choices if intercept else [slope**-2])
        start = starts[number] if starts else start
        found.append(_likeliest(logs, gold, weight, precision, start))
        start = found[-1][0]
    return found


def _best(each: Sequence[tuple[Floats, float]]) -> ChoiceCalibration:
    """The fit that holds intercepts closest to 0, among those with at least half of the highest
    evidence."""
    slopes = len(_SLOPE_SDS)
    alike = [each[k : k + slopes] for k in range(0, len(each), slopes)]
    most_likely = [max(some, key=lambda one: one[1]) for some in alike]
    likeliest, most = max(most_likely, key=lambda one: one[1])
    enough = (
        found for found, evidence in most_likely if evidence >= most - _TWICE and found[0] > 0
    )
    found = next(enough, likeliest)  # with a slope of 0, labels would not depend on the model
    intercepts = found[1:] - found[1:].mean()
    return ChoiceCalibration(
        round(float(found[0]), _DIGITS), tuple(round(float(b), _DIGITS) + 0.0 for b in intercepts)
    )


def _likeliest(
    logs: Floats, gold: Ints, weight: Floats, precision: Floats, start: Floats
) -> tuple[Floats, float]:
    """The likeliest slope and intercepts given the gold rows, and the logarithm of the evidence
    (Laplace's approximation, MacKay 1992). The priors have means 1 and 0 and this ``precision``; if
    it has one entry, the slope's, there are no intercepts."""
    expected = _expected(1.0, len(logs))
    found, loss, hessian = _minimum(logs, gold, weight, expected, precision, start, first=0)
    if found[0] < 0:  # if a model is wrong more often than right, its order is not reversed
        start = expected = _expected(0.0, len(logs))
        if len(precision) == 1:  # all choices would be equally likely in all rows
            return start, -math.inf
        found, loss, hessian = _minimum(logs, gold, weight, expected, precision, start, first=1)
        loss += precision[0] / 2
    evidence = -loss + np.sum(np.log(precision)) / 2 - np.linalg.slogdet(hessian)[1] / 2
    return found, float(evidence)


def _expected(slope: float, choices: int) -> Floats:
    return np.array([slope] + [0.0] * choices)


def _minimum(
    logs: Floats,
    gold: Ints,
    weight: Floats,
    expected: Floats,
    precision: Floats,
    start: Floats,
    first: int,
) -> tuple[Floats, float, Floats]:
    """Newton's method on the strictly convex penalised log-loss. Returns slope and intercepts, the
    loss, and its second derivatives by the parameters that have a ``precision``. Parameters before
    ``first``, and those without a ``precision``, keep their values of ``start``."""
    choices, rows = logs.shape
    at = start.copy()
    last = len(precision)
    places = gold * rows + np.arange(rows)  # of the true choices in [choices, rows]
    roots = np.sqrt(weight)

    def scored(parameters: Floats) -> tuple[Floats, float]:
        scores = parameters[0] * logs
        scores += parameters[1:, None]
        of_truth = scores.ravel()[places]
        p, taken = _exponentiated(scores)
        off = (parameters - expected)[:last]
        return p, float(weight @ (taken - of_truth) + precision @ off**2 / 2)

    p, value = scored(at)
    hessian = np.diag(precision)
    for _ in range(200):
        weighted = weight * p
        sums = weighted.sum(axis=1)
        # predicted minus true
        gradient = precision * (at - expected)[:last]
        gradient[0] += np.vdot(weighted, logs) - weight @ logs.ravel()[places]
        centred = weighted * (logs - np.einsum("kr,kr->r", p, logs))
        hessian = np.diag(precision)
        hessian[0, 0] += np.vdot(centred, logs)
        if last > 1:
            gradient[1:] += sums - np.bincount(gold, weight, minlength=choices)
            hessian[0, 1:] = hessian[1:, 0] = centred.sum(axis=1)
            rooted = roots * p
            hessian[1:, 1:] += (
                np.diag(sums) - rooted @ rooted.T
            )  # a matrix times its own transpose: half the work
        step = np.zeros_like(at)
        step[first:last] = np.linalg.solve(hessian[first:, first:], gradient[first:])
        size = 1.0
        while True:
            tried, after = scored(at - size * step)
            if after <= value or np.max(size * np.abs(step)) <= _CLOSE:
                break
            size /= 2
        at, p, value = at - size * step, tried, after
        if np.max(np.abs(step)) < _CLOSE:  # each step doubles the correct digits: enough now
            break
    return at, value, hessian
