"""Sets of labels that hold the true one as often as promised."""

from __future__ import annotations

import numpy as np

from pipeline.trust.conformal import label_sets
from tests.trust.worlds import world


def test_each_choice_is_missed_as_seldom_as_promised() -> None:
    logs, truth = world(14_000, leaning=(1.5, -1.5, 0.0))
    probabilities = np.exp(logs)
    missed = []
    for draw in range(100):
        part = slice(4_000 + draw * 100, 4_100 + draw * 100)
        found = label_sets(probabilities[part], truth[part], miss=0.1).of(probabilities[:4_000])
        held = found[np.arange(4_000), truth[:4_000]]
        missed.append([1 - held[truth[:4_000] == k].mean() for k in range(3)])
    average = np.mean(missed, axis=0)
    assert np.all(average <= 0.1 + 0.01)
    assert np.all(average >= 0.05)


def test_a_choice_with_too_few_gold_rows_is_in_every_set() -> None:
    probabilities = np.array([[0.9, 0.1]] * 30 + [[0.2, 0.8]] * 5)
    gold = np.array([0] * 30 + [1] * 5)
    assert label_sets(probabilities, gold, miss=0.1).least_probability == (0.9, 0.0)


def test_the_place_is_that_of_n_plus_one_rows() -> None:
    probabilities = np.column_stack([np.arange(1, 20) / 20, 1 - np.arange(1, 20) / 20])
    found = label_sets(probabilities, np.zeros(19, int), miss=0.1)  # the 18th of 19 from above
    assert found.least_probability[0] == 2 / 20
