"""Agreement, against scikit-learn and krippendorff."""

from __future__ import annotations

import krippendorff
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from pipeline.trust.agreement import cohen_kappa, krippendorff_alpha


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_scikit_learns(seed: int) -> None:
    random = np.random.default_rng(seed)
    first = random.integers(0, 3, 50)
    second = np.where(random.random(50) < 0.7, first, random.integers(0, 4, 50))
    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_alpha_is_krippendorffs_with_ratings_missing(seed: int) -> None:
    random = np.random.default_rng(seed)
    ratings = np.where(random.random((4, 40)) < 0.6, random.integers(0, 3, 40), 0)
    missing = random.random((4, 40)) < 0.4
    ratings[missing] = -1
    oracle = krippendorff.alpha(np.where(missing, np.nan, ratings), level_of_measurement="nominal")
    assert krippendorff_alpha(ratings) == pytest.approx(oracle, abs=1e-9)


def test_nothing_to_compare_is_no_number() -> None:
    none = np.zeros(0, int)
    assert cohen_kappa(none, none) is None
    assert cohen_kappa(np.zeros(5, int), np.zeros(5, int)) is None
    assert krippendorff_alpha(np.array([[0, -1], [-1, 1]])) is None
    assert krippendorff_alpha(np.full((2, 3), -1)) is None
    assert krippendorff_alpha(np.zeros((2, 3), int)) is None
