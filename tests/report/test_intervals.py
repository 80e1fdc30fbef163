"""Shares with intervals, and McNemar's test, against published values."""

from __future__ import annotations

import math

import pytest

from pipeline.report.classes import per_class
from pipeline.report.comparison.intervals import Share, mcnemar


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [  # Newcombe (1998), table I: Wilson's score interval
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_are_wilsons(part: int, whole: int, low: float, high: float) -> None:
    assert Share(part, whole).bounds == pytest.approx((low, high), abs=5e-5)


def test_no_rows_say_nothing() -> None:
    assert Share(0, 0).bounds == (0.0, 1.0)
    assert math.isnan(Share(0, 0).value)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [(0, 0, 1.0), (0, 1, 1.0), (1, 4, 0.375), (0, 10, 2 / 1024), (5, 5, 1.0), (10, 0, 2 / 1024)],
)
def test_mcnemars_test_is_exact(first: int, second: int, p: float) -> None:
    assert mcnemar(first, second) == pytest.approx(p)


def test_mcnemars_test_of_many_pairs_is_as_the_normal_distribution_has_it() -> None:
    z = (10_300 - 10_000 - 1) / math.sqrt(20_300)  # with the correction for continuity

    assert mcnemar(10_000, 10_300) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.01)


def test_each_class_has_its_precision_and_recall() -> None:
    bad, good, odd = per_class({"bad": {"bad": 8, "good": 2}, "good": {"bad": 4, "odd": 1}})

    assert (bad.precision, bad.recall) == (8 / 12, 0.8)
    assert (good.precision, good.recall) == (0.0, 0.0)
    assert (odd.precision, odd.recall, odd.f1) == (0.0, None, 0.0)
