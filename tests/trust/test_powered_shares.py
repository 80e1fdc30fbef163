"""Shares by gold rows and predictions together, against ppi-python."""

from __future__ import annotations

import numpy as np
import pytest
from ppi_py import ppi_mean_ci, ppi_mean_pointestimate
from scipy.stats import norm

from pipeline.trust.intervals import wilson
from pipeline.trust.shares import Moments, powered_mean, powered_share


def moments(values: np.ndarray) -> Moments:
    return Moments(len(values), float(values.mean()), float(values.var()))


@pytest.mark.parametrize("useful", [0.0, 0.5, 2.0, 6.0])
@pytest.mark.parametrize(("gold", "rest"), [(30, 40), (50, 5000), (300, 38_000)])
def test_it_is_ppi_python(useful: float, gold: int, rest: int) -> None:
    random = np.random.default_rng(0)
    truth = random.random(gold + rest) < 0.3
    predicted = 1 / (1 + np.exp(-useful * (truth - 0.5) + random.normal(size=gold + rest)))
    own = truth[:gold].astype(float)
    found = powered_mean(own, predicted[:gold], moments(predicted[gold:]))
    value = ppi_mean_pointestimate(own, predicted[:gold], predicted[gold:])
    low, high = ppi_mean_ci(own, predicted[:gold], predicted[gold:], alpha=0.05)
    assert found.value == pytest.approx(float(np.squeeze(value)), abs=1e-9)
    half = float(norm.ppf(0.975)) * found.variance**0.5  # the normal interval, as in the paper
    assert found.value - half == pytest.approx(float(np.squeeze(low)), abs=1e-9)
    assert found.value + half == pytest.approx(float(np.squeeze(high)), abs=1e-9)


def test_a_share_stays_between_0_and_1_and_is_never_certain_from_a_few_rows() -> None:
    rest = Moments(10_000, 0.01, 0.0005)
    none = powered_share(np.zeros(50, bool), np.full(50, 0.01), rest)
    assert none.low >= 0
    assert none.high > 0.02
    sure = powered_share(np.ones(50, bool), np.full(50, 0.99), Moments(10_000, 0.99, 0.0005))
    assert sure.high <= 1
    assert sure.low < 0.98


def test_useless_predictions_leave_what_gold_alone_says() -> None:
    gold = np.arange(100) % 4 == 0
    found = powered_share(gold, np.full(100, 0.6), Moments(10_000, 0.6, 0.0))
    assert found.value == pytest.approx(0.25)
    assert 0.15 < found.low < 0.19
    assert 0.33 < found.high < 0.36


def _widths(useful: float) -> tuple[float, float]:
    """How wide intervals from 50 gold rows are as a share of gold's alone, on average, and which
    share of them holds the truth, 0.2, by predictions as ``useful`` as that."""
    random = np.random.default_rng(5)
    ratios, held = [], 0
    for _ in range(400):
        truth = random.random(4_050) < 0.2
        predicted = 1 / (1 + np.exp(-useful * (truth - 0.8) + random.normal(size=4_050)))
        found = powered_share(truth[:50], predicted[:50], moments(predicted[50:]))
        alone = wilson(float(truth[:50].sum()), 50, population=4_050)
        ratios.append((found.high - found.low) / (alone.high - alone.low))
        held += found.low <= truth.mean() <= found.high
    return float(np.mean(ratios)), held / 400


def test_predictions_that_know_nothing_widen_nothing() -> None:
    width, held = _widths(0.0)
    assert width < 1.003
    assert held > 0.93


def test_predictions_that_know_much_narrow_much() -> None:
    width, held = _widths(4.0)
    assert width < 0.75
    assert held > 0.93
