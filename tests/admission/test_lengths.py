"""How long completions turn out, learned from a job's own."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.admission.lengths import MAX_GROUPS, OutputLengths
from pipeline.rows.workload import Lengths

NONE = np.zeros(0, np.int64)


def lognormal(count: int, seed: int = 0) -> list[int]:
    dice = np.random.default_rng(seed)
    return [int(n) for n in np.minimum(1 + dice.lognormal(5, 0.9, count), 1024)]


def learned(lengths: list[int], limit: int = 1024, group: int = 0) -> OutputLengths:
    made = OutputLengths(limit)
    for n in lengths:
        made.observe(group, n, cut=n >= limit)
    return made


def survival(lengths: OutputLengths, group: int = 0) -> np.ndarray:
    row = lengths.row(group)
    return np.exp(lengths.curves(NONE, NONE)[0][row])


def test_before_anything_was_seen_a_fifth_of_the_limit_is_expected() -> None:
    assert OutputLengths(1024).expected(0, 1024) == pytest.approx(205, rel=0.1)


def test_a_mean_that_is_known_is_believed_until_rows_are_seen() -> None:
    known = OutputLengths(1024, Lengths((20.0,)))

    assert known.expected(0, 1024) == pytest.approx(20, rel=0.1)


def test_lengths_of_an_earlier_run_are_expected_again() -> None:
    """About: some may be unlike them all."""
    seen = lognormal(3000)
    alive = survival(OutputLengths(1024, Lengths.of(seen)))

    for n in (16, 50, 100, 200, 400, 800):
        assert alive[n] == pytest.approx(np.mean([s > n for s in seen]), abs=0.05)


def test_lengths_unlike_those_of_an_earlier_run_are_learned() -> None:
    made = OutputLengths(1024, Lengths.of([10.0] * 90 + [20.0] * 10))
    for n in lognormal(200):
        made.observe(0, n)

    assert made.expected(0, 1024) == pytest.approx(np.mean(lognormal(200)), rel=0.2)


def test_the_curve_follows_the_lengths_seen() -> None:
    seen = lognormal(3000)
    alive = survival(learned(seen))

    for n in (16, 50, 100, 200, 400, 800):
        assert alive[n] == pytest.approx(np.mean([s > n for s in seen]), abs=0.02)


def test_the_mean_is_that_of_the_lengths_seen() -> None:
    seen = lognormal(3000)

    assert learned(seen).expected(0, 1024) == pytest.approx(np.mean(seen), rel=0.03)


def test_nobody_outlives_what_was_cut_off_at_the_limit_alone() -> None:
    """All were cut: none ended by itself, so all are expected to reach the limit."""
    alive = survival(learned([64] * 200, limit=64))

    assert alive[63] > 0.95


def test_the_first_to_finish_do_not_make_all_look_short() -> None:
    """Of 100 that started together 20 have ended by token 50: the others count as alive."""
    lengths = learned([10, 20, 30, 40, 50] * 4)
    rows = np.full(80, lengths.row(0))
    alive = np.exp(lengths.curves(rows, np.full(80, 50))[0][lengths.row(0)])

    assert alive[50] == pytest.approx(0.8, abs=0.05)


def test_groups_are_told_apart() -> None:
    lengths = learned([400] * 100, group=1)
    for _ in range(100):
        lengths.observe(2, 8)

    assert lengths.expected(1, 1024) > 300
    assert lengths.expected(2, 1024) < 30


def test_a_new_group_begins_as_the_others_are() -> None:
    lengths = learned([100] * 100, group=1)

    assert lengths.expected(99, 1024) == pytest.approx(lengths.expected(1, 1024), rel=0.2)


def test_too_many_groups_become_one() -> None:
    lengths = OutputLengths(64)

    assert {lengths.row(g) for g in range(MAX_GROUPS + 9)} == set(range(MAX_GROUPS + 1))


def test_a_drift_is_followed() -> None:
    lengths = learned([500] * 4000)
    for _ in range(6000):
        lengths.observe(0, 20)

    assert lengths.expected(0, 1024) < 60


def test_a_limit_caps_what_is_expected() -> None:
    assert learned([400] * 100).expected(0, 50) <= 50


def test_what_few_have_shown_is_unsure_and_what_many_have_is_not() -> None:
    few, many = learned(lognormal(20)), learned(lognormal(800))
    doubts = [lengths.curves(NONE, NONE)[1][lengths.row(0)] for lengths in (few, many)]

    assert all((np.diff(doubt) >= 0).all() for doubt in doubts)
    assert doubts[0][150] > 5 * doubts[1][150]


def test_who_lives_where_nobody_has_ended_yet_is_expected_to_live_on() -> None:
    """Short answers end first: what they show says nothing of those that are left."""
    lengths = learned([20] * 40)
    alive = np.exp(lengths.curves(np.full(40, lengths.row(0)), np.full(40, 200))[0][0])

    assert alive[400] / alive[200] > 0.85
