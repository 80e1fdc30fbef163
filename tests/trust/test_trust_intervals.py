"""Intervals of shares, against statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from pipeline.trust.intervals import clopper_pearson_upper, weighted_mean, wilson


@pytest.mark.parametrize(("right", "rows"), [(0, 7), (1, 50), (41, 50), (59, 59), (900, 1000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_is_statsmodels(right: int, rows: int, confidence: float) -> None:
    low, high = proportion_confint(right, rows, 1 - confidence, method="wilson")
    found = wilson(right, rows, confidence)
    assert found.low == pytest.approx(low, abs=1e-9)
    assert found.high == pytest.approx(high, abs=1e-9)


@pytest.mark.parametrize(("wrong", "rows"), [(0, 59), (1, 93), (7, 50), (50, 50)])
def test_the_one_sided_bound_is_statsmodels(wrong: int, rows: int) -> None:
    _, high = proportion_confint(wrong, rows, 0.1, method="beta")  # two-sided: 5 % on each side
    assert clopper_pearson_upper(wrong, rows, 0.95) == pytest.approx(high, abs=1e-9)


def test_59_right_rows_are_the_fewest_that_show_an_error_of_5_percent() -> None:
    assert clopper_pearson_upper(0, 58) > 0.05 > clopper_pearson_upper(0, 59)


def test_an_interval_shrinks_with_what_was_not_drawn() -> None:
    wide, half, whole = (wilson(80, 100, population=p) for p in (10**9, 200, 100))
    assert half.high - half.low == pytest.approx((wide.high - wide.low) / 2**0.5, rel=0.02)
    assert whole.low == whole.value == whole.high == 0.8


def test_rows_drawn_alike_are_weighted_alike() -> None:
    values = np.repeat([1.0, 0.0], [80, 20])
    plain, weighted = wilson(80, 100), weighted_mean(values, np.full(100, 0.01))
    assert weighted.value == pytest.approx(plain.value)
    assert weighted.low == pytest.approx(plain.low, abs=0.005)
    assert weighted.high == pytest.approx(plain.high, abs=0.005)


def test_a_weighted_interval_holds_the_truth_where_a_plain_one_does_not() -> None:
    random = np.random.default_rng(1)
    right = np.repeat([True, False], [9000, 1000])
    probability = np.where(right, 0.02, 0.2)  # wrong rows are drawn ten times as often
    held = plainly = 0
    for _ in range(200):
        drawn = random.random(10_000) < probability
        found = weighted_mean(right[drawn].astype(float), probability[drawn])
        held += found.low <= 0.9 <= found.high
        plain = wilson(float(right[drawn].sum()), int(drawn.sum()))
        plainly += plain.low <= 0.9 <= plain.high
    assert held >= 0.91 * 200
    assert plainly == 0


def test_a_weighted_interval_of_rows_that_are_all_right_is_no_point() -> None:
    found = weighted_mean(np.ones(30), np.linspace(0.1, 0.9, 30))
    assert found.value == found.high == 1
    assert found.low < 0.95
