"""Everything that a few true labels say about the labels of a dataset."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.trust.acceptance import (
    Acceptance,
    MoreReview,
    NoAcceptance,
    Promise,
    accept,
    more_review,
)
from pipeline.trust.arrays import Bools, Floats, Ints
from pipeline.trust.calibration import ChoiceCalibration, decide, uncalibrated, why_no_fit
from pipeline.trust.conformal import LabelSets, label_sets
from pipeline.trust.cross_fitted import CrossFitted, cross_fit
from pipeline.trust.gold_sample import GoldSample
from pipeline.trust.intervals import Interval, clopper_pearson_upper, weighted_mean, wilson
from pipeline.trust.scores import Bin, brier, calibration_error, reliability
from pipeline.trust.shares import powered_share


@dataclass(frozen=True)
class LabelQuality:
    """How good labels and probabilities are, measured on ``rows`` gold rows that were drawn at
    random and that the fit had not seen."""

    rows: int
    accuracy: Interval
    calibration_error: float
    brier: float
    reliability: tuple[Bin, ...]


@dataclass(frozen=True)
class ChoiceShare:
    """How often a choice is true over all rows. ``labelled``: rows that have it as their label;
    ``share``: from gold rows and predictions together; ``gold_alone``: from gold rows only."""

    choice: str
    labelled: int
    share: Interval
    gold_alone: Interval


@dataclass(frozen=True)
class CurvePoint:
    """What if the most confident ``share`` of all rows were accepted? They contain ``reviewed``
    gold rows; the share ``error`` of these is wrong, and ``upper`` is its upper bound."""

    share: float
    reviewed: int
    error: float
    upper: float


@dataclass(frozen=True)
class Decisions:
    """What is written into the dataset [rows]. ``accepted``: None if nothing was promised."""

    labels: Ints
    confidences: Floats
    accepted: Bools | None


@dataclass(frozen=True)
class TrustReport:
    """``rows``: rows of the dataset that have an answer. ``calibration``: None if there is none;
    ``no_calibration`` then says why. ``before``, ``after``: quality before and after calibration;
    None without gold rows drawn at random, ``after`` also without a calibration.
    ``weighted_accuracy``: over all rows, from gold rows drawn with different probabilities; None if
    all were drawn with the same one. ``confusion`` [true choice, label]: gold rows drawn at random,
    after calibration. ``acceptance``: None if no promise was asked for or none is possible;
    ``no_promise`` then says why."""

    choices: tuple[str, ...]
    rows: int
    gold: int
    gold_at_random: int
    probabilities_known: bool
    calibration: ChoiceCalibration | None
    no_calibration: str | None
    before: LabelQuality | None
    after: LabelQuality | None
    weighted_accuracy: Interval | None
    confusion: tuple[tuple[int, ...], ...]
    shares: tuple[ChoiceShare, ...]
    curve: tuple[CurvePoint, ...]
    promise: Promise | None
    acceptance: Acceptance | NoAcceptance | None
    no_promise: str | None
    more_review: MoreReview | None
    label_sets: LabelSets | None

    def decide(self, log_probabilities: NDArray[np.floating]) -> Decisions:
        """Labels, confidences and whether to accept, for any of the rows [rows, choices]."""
        decided = decide(self.calibration or uncalibrated(len(self.choices)), log_probabilities)
        accepted = None
        if isinstance(self.acceptance, Acceptance):
            accepted = decided.confidences >= self.acceptance.threshold
        elif isinstance(self.acceptance, NoAcceptance):
            accepted = np.zeros(len(decided.labels), bool)
        return Decisions(decided.labels, decided.confidences, accepted)

    def sets(self, log_probabilities: NDArray[np.floating]) -> Bools | None:
        """Which choices belong to each row's label set [rows, choices]; None if there are none."""
        if self.label_sets is None:
            return None
        calibration = self.calibration or uncalibrated(len(self.choices))
        return self.label_sets.of(calibration.apply(log_probabilities))

    def as_json(self) -> dict[str, object]:
        told, outcome = asdict(self), self.acceptance
        return told | {
            "gold": {
                "rows": self.gold,
                "at_random": told.pop("gold_at_random"),
                "probabilities_known": told.pop("probabilities_known"),
            },
            "confusion": {
                true: {label: rows for label, rows in zip(self.choices, line, strict=True) if rows}
                for true, line in zip(self.choices, self.confusion, strict=True)
                if any(line)
            },
            "acceptance": outcome
            and {"accepted": isinstance(outcome, Acceptance), **told["acceptance"]},
        }


def assess(
    log_probabilities: NDArray[np.floating],
    gold: GoldSample,
    choices: tuple[str, ...],
    promise: Promise | None = None,
    calibrate: bool = True,
    miss: float | None = None,
    at_random: float = 1.0,
) -> TrustReport:
    """What ``gold`` says about all rows. ``log_probabilities`` [rows, choices]: the model's own, of
    all rows. ``calibrate``: if the gold rows allow it. ``miss``: the share of rows whose label set
    may miss the true choice; None for no sets. ``at_random``: the share of the rows reviewed next
    that is drawn at random."""
    gold, rows = gold.in_order(), len(log_probabilities)
    why_not = why_no_fit(gold.values) if calibrate else "calibration is switched off"
    raw = cross_fit(log_probabilities, gold, calibrate=False)
    judged = raw if why_not else cross_fit(log_probabilities, gold, calibrate=True)
    drawn = gold.random
    values, right = gold.values[drawn], judged.labels[drawn] == gold.values[drawn]
    outcome, no_promise, more = None, None, None
    if promise and not drawn.any():
        no_promise = "no gold row was drawn at random, which a promise about all rows needs"
    elif promise:
        outcome = accept(judged.ranks[drawn], right, judged.all_confidences, promise)
        accepted = outcome.rows if isinstance(outcome, Acceptance) else 0
        more = more_review(judged.all_confidences, len(values), accepted, promise, at_random)
    weights = gold.weights(rows)
    return TrustReport(
        choices=choices,
        rows=rows,
        gold=len(gold),
        gold_at_random=len(values),
        probabilities_known=not np.isnan(gold.inclusion_probabilities).any(),
        calibration=None if why_not else judged.calibration,
        no_calibration=why_not,
        before=_quality(raw, gold, rows),
        after=None if why_not else _quality(judged, gold, rows),
        weighted_accuracy=None
        if weights is None
        else weighted_mean(
            (judged.labels == gold.values).astype(float),
            1 / weights,
            widened=judged.widened,
            population=rows,
        ),
        confusion=_confusion(values, judged.labels[drawn], len(choices)),
        shares=_shares(judged, gold, choices),
        curve=_curve(judged.ranks[drawn], right, promise or Promise()),
        promise=promise,
        acceptance=outcome,
        no_promise=no_promise,
        more_review=more,
        label_sets=None if miss is None else label_sets(judged.probabilities[drawn], values, miss),
    )


def accuracy(right: Bools, rows: int, widened: float) -> Interval:
    """The share of right labels among all ``rows``, from ``right`` [gold rows drawn at random].
    The interval is that of ``widened`` times fewer rows (see ``CrossFitted.widened``)."""
    part = 1 / widened
    return wilson(part * float(right.sum()), part * len(right), population=part * rows)


def _quality(judged: CrossFitted, gold: GoldSample, rows: int) -> LabelQuality | None:
    drawn, n = gold.random, int(gold.random.sum())
    if not n:
        return None
    right = judged.labels[drawn] == gold.values[drawn]
    confidences = judged.confidences[drawn]
    return LabelQuality(
        n,
        accuracy(right, rows, judged.widened),
        calibration_error(confidences, right),
        brier(judged.probabilities[drawn], gold.values[drawn]),
        tuple(reliability(confidences, right)),
    )


def _confusion(values: Ints, labels: Ints, choices: int) -> tuple[tuple[int, ...], ...]:
    table = np.zeros((choices, choices), np.int64)
    np.add.at(table, (values, labels), 1)
    return tuple(tuple(int(one) for one in line) for line in table)


def _shares(
    judged: CrossFitted, gold: GoldSample, choices: tuple[str, ...]
) -> tuple[ChoiceShare, ...]:
    drawn, rows = gold.random, len(judged.all_labels)
    if not drawn.any():
        return ()
    labelled = np.bincount(judged.all_labels, minlength=len(choices))
    return tuple(
        ChoiceShare(
            name,
            int(labelled[k]),
            powered_share(gold.values[drawn] == k, judged.probabilities[drawn, k], judged.rest[k]),
            wilson(float(np.sum(gold.values[drawn] == k)), int(drawn.sum()), population=rows),
        )
        for k, name in enumerate(choices)
    )


def _curve(rank: Floats, right: Bools, promise: Promise) -> tuple[CurvePoint, ...]:
    points = []
    for share in np.arange(1, 21) / 20:
        inside = rank <= share + 1e-9
        reviewed, wrong = int(inside.sum()), int(np.sum(inside & ~right))
        if reviewed:
            upper = clopper_pearson_upper(wrong, reviewed, promise.confidence)
            points.append(CurvePoint(float(share), reviewed, wrong / reviewed, upper))
    return tuple(points)
