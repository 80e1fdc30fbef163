"""Bradley–Terry strengths, against choix."""

from __future__ import annotations

import choix
import numpy as np
import pytest

from pipeline.trust.preference import ELO, bradley_terry, elo


@pytest.mark.parametrize("seed", range(4))
def test_strengths_are_those_of_choix(seed: int) -> None:
    random = np.random.default_rng(seed)
    wins = random.integers(1, 20, (5, 5)).astype(float)
    np.fill_diagonal(wins, 0)
    pairs = [(i, j) for i in range(5) for j in range(5) for _ in range(int(wins[i, j]))]
    oracle = choix.opt_pairwise(5, pairs, tol=1e-12)
    assert bradley_terry(wins, ties_before=0) == pytest.approx(oracle - oracle.mean(), abs=1e-6)


def test_two_answers_are_as_far_apart_as_their_log_odds() -> None:
    strength = bradley_terry(np.array([[0.0, 75.0], [25.0, 0.0]]), ties_before=0)
    assert strength[0] - strength[1] == pytest.approx(np.log(3))


def test_who_never_lost_is_finitely_better() -> None:
    strength = bradley_terry(np.array([[0.0, 20.0], [0.0, 0.0]]))
    assert 2 < strength[0] - strength[1] < 10


def test_the_interval_holds_no_difference_where_there_is_none() -> None:
    random = np.random.default_rng(0)
    rows = [
        np.array([[0.0, 1.0], [0.0, 0.0]])
        if random.random() < 0.5
        else np.array([[0.0, 0.0], [1.0, 0.0]])
        for _ in range(200)
    ]
    first, second = elo(rows, resamples=200)
    assert first.low < 0 < first.high
    assert first.elo == pytest.approx(-second.elo)
    assert elo(rows, resamples=200) == [first, second]


def test_ten_wins_to_one_are_400_points() -> None:
    win, loss = np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [1.0, 0.0]])
    first, second = elo([win] * 1000 + [loss] * 100, resamples=50)
    assert first.elo - second.elo == pytest.approx(400, abs=2)
    assert pytest.approx(400) == ELO * np.log(10)
