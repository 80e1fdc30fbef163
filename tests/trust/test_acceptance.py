"""Which rows are accepted, and that the promise holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from pipeline.trust import acceptance as module
from pipeline.trust.acceptance import (
    Acceptance,
    NoAcceptance,
    Promise,
    accept,
    least_reviewed,
    more_review,
    ranks,
    upper_bound,
)
from pipeline.trust.intervals import clopper_pearson_upper

Bools = np.ndarray


def drawn(
    rows: int, gold: int, errors: Bools, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ranks and rightness of gold rows, and all confidences: row 0 is the most confident one."""
    confidences = np.linspace(1, 0.5, rows)
    picked = np.random.default_rng(seed).choice(rows, gold, replace=False)
    return ranks(confidences, picked), ~errors[picked], confidences


@pytest.mark.parametrize(("gold", "least"), [(60, 5), (100, 50), (300, 100)])
def test_the_promised_error_is_exceeded_as_seldom_as_promised(gold: int, least: int) -> None:
    rows, exceeded, exceeded_unseen, accepted = 3000, 0, 0, 0
    errors = np.random.default_rng(0).random(rows) < np.linspace(0, 0.12, rows)
    for seed in range(300):
        rank, right, confidences = drawn(rows, gold, errors, seed)
        found = accept(rank, right, confidences, Promise(0.05, 0.9))
        if isinstance(found, Acceptance):
            inside = confidences >= found.threshold
            accepted += 1
            exceeded += errors[inside].mean() > 0.05
            inside[np.random.default_rng(seed).choice(rows, gold, replace=False)] = False
            exceeded_unseen += errors[inside].mean() > 0.05
    assert accepted > least
    assert exceeded <= 0.1 * 300
    assert exceeded_unseen <= 0.1 * 300


def test_tests_stop_at_the_first_share_that_fails() -> None:
    rank = np.arange(1, 201) / 200
    right = np.ones(200, bool)
    right[100:110] = False  # ten wrong in the middle, all right again after
    found = accept(rank, right, np.linspace(1, 0.5, 200_000), Promise(0.06, 0.95))
    assert isinstance(found, Acceptance)
    assert found.rows < 0.55 * 200_000


def test_equal_confidences_stand_or_fall_together() -> None:
    confidences = np.repeat([0.9, 0.8], [700, 300])
    of = np.arange(0, 1000, 4)
    right = confidences[of] > 0.85
    found = accept(ranks(confidences, of), right, confidences, Promise(0.05, 0.95))
    assert isinstance(found, Acceptance)
    assert (found.threshold, found.rows) == (0.9, 700)
    alike = np.full(1000, 0.7)
    nothing = accept(ranks(alike, of), right, alike, Promise(0.05, 0.95))
    assert isinstance(nothing, NoAcceptance)
    assert nothing.best_rows == 1000


def test_the_chance_is_that_of_the_hypergeometric_distribution() -> None:
    random = np.random.default_rng(0)
    rows = random.integers(2, 5000, 2000)
    seen = (rows * random.random(2000)).astype(np.int64)
    all_wrong = (rows * random.random(2000)).astype(np.int64)
    wrong = np.minimum(np.minimum(seen, random.integers(0, 60, 2000)), all_wrong)
    ours = module._at_most(wrong, rows, all_wrong, seen)
    assert ours == pytest.approx(hypergeom.cdf(wrong, rows, all_wrong, seen), abs=1e-9)


@pytest.mark.parametrize(("wrong", "seen"), [(0, 59), (3, 174), (46, 1237)])
def test_among_many_rows_the_bound_is_cloppers_and_pearsons(wrong: int, seen: int) -> None:
    many = upper_bound(wrong, seen, 10**9, 0.95)
    assert many == pytest.approx(clopper_pearson_upper(wrong, seen, 0.95), abs=1e-6)
    assert upper_bound(wrong, seen, 2 * seen, 0.95) < many
    assert upper_bound(wrong, seen, seen, 0.95) == wrong / seen


def test_how_many_rows_a_promise_needs_at_least() -> None:
    assert least_reviewed(10**6, Promise(0.05, 0.95)) == 59
    assert least_reviewed(10**6, Promise(0.02, 0.95)) == 149
    rank = np.arange(1, 31) / 30
    found = accept(rank, np.ones(30, bool), np.linspace(1, 0.5, 10**6), Promise(0.05, 0.95))
    assert isinstance(found, NoAcceptance)
    assert found.more == 29
    assert found.best_error == pytest.approx(0.1, abs=0.01)  # 1 - 0.05 ** (1 / 30)


def test_where_too_many_are_wrong_an_error_that_can_be_promised_is_said() -> None:
    rank = np.arange(1, 401) / 400
    right = np.arange(400) % 5 != 0
    found = accept(rank, right, np.linspace(1, 0.5, 40_000), Promise(0.05, 0.95))
    assert isinstance(found, NoAcceptance)
    assert found.more == 0
    assert found.best_error is not None
    best = accept(rank, right, np.linspace(1, 0.5, 40_000), Promise(found.best_error, 0.95))
    assert isinstance(best, Acceptance)
    assert best.rows == found.best_rows


def test_what_more_review_gains_is_said_where_there_is_something_to_gain() -> None:
    confidences = np.linspace(1, 0.8, 20_000)
    more = more_review(confidences, 60, 0, Promise(0.05, 0.95))
    assert more is not None
    assert more.rows >= 25
    assert more.gain > 2_000
    assert more_review(confidences, 60, 20_000, Promise(0.05, 0.95)) is None
    none_at_random = more_review(confidences, 30, 0, Promise(0.05, 0.95), at_random=0.0)
    assert none_at_random is None  # a promise rests on rows drawn at random alone
    fewer = more_review(confidences, 60, 0, Promise(0.05, 0.95), at_random=0.8)
    assert fewer is not None
    assert (fewer.rows, -fewer.gain) >= (more.rows, -more.gain)
    assert more_review(np.full(1000, 0.6), 60, 0, Promise(0.05, 0.95)) is None


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 999), st.floats(0.01, 0.5))
def test_whatever_is_drawn_accepted_gold_rows_keep_the_promise(
    rows: int, gold: int, seed: int, error: float
) -> None:
    gold = min(gold, rows)
    errors = np.random.default_rng(seed).random(rows) < 0.1
    rank, right, confidences = drawn(rows, gold, errors, seed)
    found = accept(rank, right, confidences, Promise(error, 0.95))
    if isinstance(found, Acceptance):
        assert found.wrong <= error * found.reviewed + 1e-6
        assert found.rows == np.sum(confidences >= found.threshold)
        assert found.upper <= error + 1 / max(1, found.rows)
