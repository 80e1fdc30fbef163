"""The cost of each part of a step from measured steps: least squares without negative costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import numpy as np
from numpy.typing import NDArray

from pipeline.budget.step_time import CalibratedTime, Knots, StepWork

_Vector = NDArray[np.float64]
_TOLERANCE = 1e-10
# Where the measurements do not decide, neighbouring pieces should cost the same: their difference
# weighs like the error that it causes in a step of the middle length over so many tokens.
_SMOOTH = 0.3
_WELL_INSIDE = 0.75  # of the largest measured value: a last piece needs its own points


@dataclass(frozen=True)
class Timing:
    """Steps that took ``seconds`` together. ``name`` says in words what they did. ``quiet``:
    nothing else kept the machine busy meanwhile."""

    name: str
    works: tuple[StepWork, ...]
    seconds: float
    quiet: bool = True

    @property
    def steps(self) -> int:
        return sum(work.steps for work in self.works)


@dataclass(frozen=True)
class StepFit:
    """Fitted step times, and their deviation from the measurements, as shares of these."""

    time: CalibratedTime
    errors: tuple[float, ...]  # of each measurement: fitted / measured - 1

    @property
    def median_error(self) -> float:
        return median(abs(e) for e in self.errors)

    @property
    def largest_error(self) -> float:
        return max(abs(e) for e in self.errors)


def fit_steps(measured: Sequence[Timing]) -> StepFit:
    """The costs closest to ``measured``, by relative error. Raises ValueError if it is empty.

    Costs are never negative, so no step can take less time than a smaller one.
    """
    if not measured or any(m.seconds <= 0 for m in measured):
        raise ValueError("nothing measured")
    knots = _knots_within(measured)
    sums = np.array([np.sum([knots.features(w) for w in m.works], axis=0) for m in measured])
    seconds = np.array([m.seconds for m in measured])
    relative = sums / seconds[:, None]
    scale = np.where(relative.any(axis=0), np.abs(relative).max(axis=0), 1.0)
    bends = _bends(knots) * (_SMOOTH / float(np.median(seconds)))
    a = np.vstack([relative, bends]) / scale
    b = np.concatenate([np.ones(len(measured)), np.zeros(len(bends))])
    costs = non_negative_least_squares(a, b) / scale
    named = dict(zip(knots.names, costs.tolist(), strict=True))
    time = CalibratedTime({name: cost for name, cost in named.items() if cost > 0}, knots)
    fitted = [sum(time.seconds(work) for work in m.works) for m in measured]
    errors = tuple(f / m.seconds - 1 for f, m in zip(fitted, measured, strict=True))
    return StepFit(time, errors)


def _bends(knots: Knots) -> _Vector:
    """A row for each pair of neighbouring pieces: their costs' difference. [bends, features]"""
    names = knots.names
    ramps = [[f"{what}>{k}" for k in getattr(knots, what)] for what in ("tokens", "samples")]
    pairs = [pair for pieces in ramps for pair in pairwise(pieces)]
    rows = np.zeros((len(pairs), len(names)))
    for row, (one, other) in zip(rows, pairs, strict=True):
        row[names.index(one)], row[names.index(other)] = 1.0, -1.0
    return rows


def _knots_within(measured: Sequence[Timing]) -> Knots:
    """Knots up to the largest measurement; beyond it, the last piece continues."""
    works = [work for m in measured for work in m.works]
    tokens = max((w.sequences + w.prefill_tokens) / w.steps for w in works)
    samples = max((w.sequences + w.prefills) / w.steps for w in works)
    usual = Knots()
    return Knots(
        tuple(k for k in usual.tokens if k == 0 or k <= _WELL_INSIDE * tokens),
        tuple(k for k in usual.samples if k == 0 or k <= _WELL_INSIDE * samples),
    )


def non_negative_least_squares(a: _Vector, b: _Vector) -> _Vector:
    """The x >= 0 that minimizes ``|a x - b|``: Lawson and Hanson's active-set method (Solving Least
    Squares Problems, 1974, chapter 23). ``a``: [m, n]; ``b``: [m]; x: [n]."""
    n = a.shape[1]
    x = np.zeros(n)
    used = np.zeros(n, dtype=bool)
    for _ in range(3 * n):
        gain = a.T @ (b - a @ x)
        gain[used] = -np.inf
        if used.all() or gain.max() <= _TOLERANCE:
            break
        used[int(np.argmax(gain))] = True
        while True:
            trial = np.zeros(n)
            trial[used] = np.linalg.lstsq(a[:, used], b, rcond=None)[0]
            negative = used & (trial <= 0)
            if not negative.any():
                break
            share = (x[negative] / np.maximum(x[negative] - trial[negative], 1e-300)).min()
            x = x + share * (trial - x)
            used &= x > _TOLERANCE
            x[~used] = 0.0
        x = trial
    return x
