"""Whether a later run's rows still come from where an earlier one's did."""

from __future__ import annotations

import numpy as np

from pipeline.trust.drift import drift


def run(rows: int, seed: int, sure: float = 5.0, shares: tuple[float, ...] = (0.5, 0.5)):
    random = np.random.default_rng(seed)
    return 0.5 + random.beta(sure, 1.5, rows) / 2, random.multinomial(rows, shares)


def test_equal_runs_are_hardly_ever_told_apart() -> None:
    found = 0
    for seed in range(300):
        (one, labels), (other, labels_after) = run(2000, seed), run(2000, 1000 + seed)
        found += drift(one, other, labels, labels_after).found
    assert found <= 0.02 * 300


def test_less_sure_answers_and_other_shares_are_found() -> None:
    before, labels = run(2000, 0)
    less_sure, same = run(2000, 1, sure=3.0)
    assert drift(before, less_sure, labels, same).found
    after, shifted = run(2000, 1, shares=(0.6, 0.4))
    assert drift(before, after, labels, shifted).found


def test_what_differs_too_little_to_matter_is_no_drift() -> None:
    before, labels = run(400_000, 0)
    after, shifted = run(400_000, 1, shares=(0.51, 0.49))
    found = drift(before, after, labels, shifted)
    assert found.shares_chance < 1e-6
    assert not found.found


def test_rare_labels_in_small_runs_are_no_drift() -> None:
    many = (0.55, 0.2, 0.1, 0.05, 0.04, 0.02, 0.02, 0.01, 0.005, 0.005)
    for rows in (10, 30):
        found = 0
        for seed in range(200):
            before, labels = run(2000, seed, shares=many)
            after, labels_after = run(rows, 1000 + seed, shares=many)
            found += drift(before, after, labels, labels_after).found
        assert found <= 0.02 * 200, rows  # 0.07 of 10 rows by chi-square's own distribution


def test_a_rare_label_that_becomes_common_is_found_in_a_small_run() -> None:
    before, labels = run(2000, 0, shares=(0.995, 0.005))
    after, shifted = run(40, 1, shares=(0.7, 0.3))
    assert drift(before, after, labels, shifted).found
    assert drift(before, after, labels, shifted) == drift(before, after, labels, shifted)


def test_a_label_that_neither_gives_and_a_single_label_are_no_trouble() -> None:
    before, _ = run(100, 0)
    assert drift(before, before, np.array([100, 0]), np.array([100, 0])).shares_chance == 1
    assert drift(before, before, np.array([50, 50, 0]), np.array([50, 50, 0])).shares == 0
