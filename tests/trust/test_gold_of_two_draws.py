"""Right answers from a column, beside reviewed rows that were drawn with other probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.trust.gold_sample import GoldSample
from pipeline.trust.intervals import Interval, weighted_mean
from pipeline.trust.report import assess
from tests.trust.worlds import world

CHOICES = ("a", "b", "c", "d", "e")
ROWS = 1500


def judged(told: int, reviewed: int, seed: int, rows: int = ROWS) -> tuple[Interval, float]:
    """The interval of the accuracy and what it is in truth, after so many right answers of a column
    and so many reviewed rows, of which those in doubt were drawn four times as often."""
    logs, truth = world(rows, leaning=(1.0, -1.0, 0.5, 0.0, 0.0), sure=0.6)
    dice = np.random.default_rng(seed)
    column = dice.choice(rows, told, replace=False)
    rest = np.setdiff1d(np.arange(rows), column)
    doubtful = logs[rest].max(axis=1) < np.median(logs.max(axis=1))
    often = np.where(doubtful, 4.0, 1.0)
    chance = np.minimum(1.0, reviewed * often / often.sum())
    asked = dice.random(len(rest)) < chance
    chosen = np.concatenate([column, rest[asked]])
    gold = GoldSample(
        chosen,
        truth[chosen],
        np.concatenate([np.full(told, np.nan), chance[asked]]),
        np.arange(len(chosen)) < told,
    )
    report = assess(logs, gold, CHOICES, calibrate=False)
    found = report.weighted_accuracy or (report.before and report.before.accuracy)
    assert found is not None
    return found, float(np.mean(logs.argmax(axis=1) == truth))


def width(interval: Interval) -> float:
    return interval.high - interval.low


@pytest.mark.parametrize("reviewed", [1, 5, 25, 100])
def test_a_few_reviewed_rows_beside_many_others_do_not_make_an_interval_wider(
    reviewed: int,
) -> None:
    alone, _ = judged(400, 0, seed=1)
    wider = [width(judged(400, reviewed, seed)[0]) / width(alone) for seed in range(20)]
    assert np.mean(wider) < 1.02


def test_rows_of_two_draws_hold_the_truth() -> None:
    for told, reviewed in ((0, 100), (50, 100), (300, 30), (20, 600)):
        found = [judged(told, reviewed, seed) for seed in range(80)]
        held = np.mean([one.low <= truth <= one.high for one, truth in found])
        assert 0.89 <= held <= 1, (told, reviewed, held)


def test_each_draw_has_the_share_that_its_rows_are_worth() -> None:
    unknown = float("nan")
    probabilities = np.array([unknown] * 6 + [0.2, 0.2, 0.1])
    gold = GoldSample(np.arange(9), np.zeros(9, int), probabilities, np.ones(9, bool))
    weights = gold.weights(100)
    assert weights is not None
    worth = (5 + 5 + 10) ** 2 / (25 + 25 + 100)
    assert weights.sum() == pytest.approx(100)
    assert weights[:6].sum() == pytest.approx(100 * 6 / (6 + worth))
    assert weights[8] == pytest.approx(2 * weights[6])


def test_what_was_nearly_all_drawn_is_nearly_known() -> None:
    values = np.repeat([1.0, 0.0], [80, 20])
    chances = np.linspace(0.98, 1.0, 100)
    assert width(weighted_mean(values, chances, population=101)) < 0.03
    assert width(weighted_mean(values, chances)) > 0.14
