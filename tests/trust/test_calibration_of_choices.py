"""The fit of slope and intercepts, against statsmodels and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss
from statsmodels.discrete.conditional_models import ConditionalLogit

from pipeline.trust import calibration as module
from pipeline.trust.calibration import ChoiceCalibration, cross_fits, fit, uncalibrated
from pipeline.trust.scores import brier, calibration_error, reliability
from tests.trust.worlds import world


@pytest.fixture
def _no_shrinking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLOPE_SDS", (1e5,))
    monkeypatch.setattr(module, "_INTERCEPT_SDS", (1e5,))


@pytest.mark.usefixtures("_no_shrinking")
@pytest.mark.parametrize("leaning", [(1.0, -1.0), (1.0, -1.0, 0.3), (0.5, 0.0, -0.5, 1.0)])
def test_without_shrinking_it_is_statsmodels_conditional_logit(leaning: tuple[float, ...]) -> None:
    logs, truth = world(400, leaning=leaning)
    rows, choices = logs.shape
    chosen = (np.arange(choices) == truth[:, None]).astype(float)
    dummies = np.tile(np.eye(choices)[:, 1:], (rows, 1))
    oracle = ConditionalLogit(
        chosen.ravel(),
        np.column_stack([logs.ravel(), dummies]),
        groups=np.repeat(np.arange(rows), choices),
    ).fit(disp=False, method="newton", maxiter=100)
    found = fit(logs, truth)
    ours = np.array(found.intercepts)
    assert found.slope == pytest.approx(oracle.params[0], abs=1e-6)
    assert ours[1:] - ours[0] == pytest.approx(oracle.params[1:], abs=1e-6)


def test_scores_are_those_of_scikit_learn() -> None:
    logs, truth = world(300, leaning=(1.0, -1.0, 0.3))
    probabilities = np.exp(logs)
    oracle = brier_score_loss(truth, probabilities, scale_by_half=False, labels=[0, 1, 2])
    assert brier(probabilities, truth) == pytest.approx(oracle, abs=1e-9)


def test_a_fit_makes_rows_it_did_not_see_likelier() -> None:
    logs, truth = world(20_000)
    before = log_loss(truth, np.exp(logs))
    for gold in (20, 50, 200):
        after = np.mean(
            [
                log_loss(truth, fit(logs[part], truth[part]).apply(logs))
                for part in (slice(k * gold, (k + 1) * gold) for k in range(20))
            ]
        )
        assert after < before


def test_the_true_slope_and_intercepts_are_found() -> None:
    logs, truth = world(50_000, leaning=(1.5, -1.5), sure=1.7)
    found = fit(logs, truth)
    assert found.slope == pytest.approx(1 / 1.7, abs=0.02)
    assert found.intercepts == pytest.approx((-1.5, 1.5), abs=0.06)


def test_few_gold_rows_of_many_choices_do_no_harm() -> None:
    logs, truth = world(5_000, leaning=(0.0,) * 255, sure=1.7)
    found = fit(logs[:60], truth[:60])
    assert max(map(abs, found.intercepts)) < 0.1
    before, after = np.mean(logs.argmax(1) == truth), np.mean(found.apply(logs).argmax(1) == truth)
    assert after > before - 0.01


def _gains(leaning: tuple[float, ...], gold: int) -> tuple[list[float], float]:
    """How many more labels are right after some fits on so many gold rows (shares of all rows), and
    after one on all of them."""
    logs, truth = world(4_000, leaning=leaning)
    before = float(np.mean(logs.argmax(1) == truth))

    def gain(part: slice) -> float:
        found = fit(logs[part], truth[part])
        return float(np.mean(found.apply(logs).argmax(1) == truth)) - before

    return [gain(slice(k * gold, (k + 1) * gold)) for k in range(40)], gain(slice(None))


@pytest.mark.parametrize("leaning", [(0.0, 0.0), (0.0, 0.0, 0.0)])
def test_labels_stay_where_gold_rows_do_not_speak_against_them(leaning: tuple[float, ...]) -> None:
    """With the likeliest intercepts, a third of the fits and more would move labels, and 0.2 % of
    all would be wrong for it on average."""
    gains, _ = _gains(leaning, 50)
    assert np.mean(np.array(gains) == 0) > 0.8
    assert np.mean(gains) > -0.001


def test_labels_of_a_model_that_leans_are_mended_nearly_as_far_as_they_can_be() -> None:
    gains, most = _gains((1.5, 0.0, -1.5), 50)
    assert most > 0.04
    assert np.mean(gains) > 0.85 * most


def _best(*evidence: tuple[float, float, float]) -> ChoiceCalibration:
    """Of a slope, an intercept and the evidence, for each expectation of intercepts."""
    each = [
        (np.array([slope, intercept, -intercept]), found - less)
        for slope, intercept, found in evidence
        for less in (0.0, 5.0)
    ]
    return module._best(each)


def test_intercepts_have_to_make_the_gold_rows_twice_as_likely() -> None:
    assert _best((2, 0, -10.0), (2, 0.1, -9.4)).intercepts == (0, 0)
    assert _best((2, 0, -10.0), (2, 0.1, -9.2)).intercepts == (0.1, -0.1)
    assert _best((2, 0, -10.0), (2, 0.1, -9.2), (2, 0.3, -8.6)).intercepts == (0.1, -0.1)


def test_a_slope_of_0_is_taken_only_where_it_is_the_likeliest() -> None:
    assert _best((0, 0, -np.inf), (0, 0.1, -10.0), (1, 0.3, -9.9)).slope == 1
    assert _best((0, 0, -np.inf), (0, 0.1, -10.0), (1, 0.3, -10.8)).slope == 0


def _judged(logs: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Calibrated probabilities [rows, choices], each row's by the fit of its fold."""
    probabilities = np.empty(logs.shape)
    for inside, calibration in cross_fits(logs, truth):
        probabilities[inside] = calibration.apply(logs[inside])
    return probabilities


def test_a_row_is_judged_by_a_fit_that_did_not_see_it() -> None:
    logs, truth = world(60)
    judged = _judged(logs, truth)
    for row in range(0, 60, 7):
        other = truth.copy()
        other[row] = 1 - other[row]
        again = _judged(logs, other)
        assert np.array_equal(again[row], judged[row])
        assert not np.array_equal(again, judged)


def test_weights_count_as_rows_do() -> None:
    logs, truth = world(400)
    unequal = np.where(np.arange(400) < 200, 3.0, 1.0)
    assert fit(logs, truth, np.full(400, 7.0)) == fit(logs, truth)
    biased = np.random.default_rng(0).random(20_000) < np.where(np.arange(20_000) % 2, 0.05, 0.01)
    logs, truth = world(20_000)
    logs[1::2] += np.array([2.0, 0.0])  # half of all rows lean more, and are drawn more often
    weighted = fit(
        logs[biased], truth[biased], np.where(np.arange(20_000) % 2, 20.0, 100.0)[biased]
    )
    whole, plain = fit(logs, truth), fit(logs[biased], truth[biased])
    off = [abs(one.intercepts[0] - whole.intercepts[0]) for one in (weighted, plain)]
    assert off[0] < off[1] / 2
    assert unequal.sum() == 800


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 6),
    st.integers(1, 40),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_whatever_is_given_the_fit_is_finite_and_turns_nothing_round(
    choices: int, rows: int, seed: int, zeros: float
) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(choices, 0.2), rows)
    probabilities[random.random(rows) < zeros] = np.eye(choices)[0]  # underflown: sure to the last
    with np.errstate(divide="ignore"):
        logs = np.log(probabilities)
    found = fit(logs, random.integers(0, choices, rows))
    assert found.slope >= 0
    assert np.all(np.isfinite(found.intercepts))
    assert sum(found.intercepts) == pytest.approx(0, abs=1e-7)
    calibrated = found.apply(logs)
    assert calibrated.sum(axis=1) == pytest.approx(1)
    assert np.all(np.isfinite(calibrated))


def test_a_model_that_is_wrong_more_often_than_not_is_not_turned_round() -> None:
    logs, truth = world(500)
    assert fit(logs, 1 - truth).slope == 0


def test_separable_gold_rows_leave_bounds() -> None:
    logs = np.log(np.array([[0.6, 0.4], [0.4, 0.6]] * 20))
    found = fit(logs, np.array([0, 1] * 20))
    assert 1 < found.slope < 10


def test_a_constant_on_a_row_changes_nothing() -> None:
    logs, _ = world(50)
    one = ChoiceCalibration(0.7, (0.3, -0.3))
    assert one.apply(logs - 5.0) == pytest.approx(one.apply(logs))
    assert uncalibrated(2).apply(logs) == pytest.approx(np.exp(logs), abs=1e-11)


def test_a_row_of_which_nothing_is_known_is_even() -> None:
    assert uncalibrated(2).apply(np.array([[-np.inf, -np.inf]])) == pytest.approx(0.5)


def test_calibration_error_by_hand() -> None:
    confidence, right = np.array([0.95, 0.91, 0.55, 1.0]), np.array([True, False, True, True])
    bins = reliability(confidence, right)
    assert [(one.low, one.rows, one.right) for one in bins] == [(0.5, 1, 1.0), (0.9, 3, 2 / 3)]
    assert calibration_error(confidence, right) == pytest.approx(
        (0.45 + 3 * abs((0.95 + 0.91 + 1) / 3 - 2 / 3)) / 4
    )


@pytest.mark.parametrize(("choices", "gold"), [(3, 40), (60, 90)])
def test_where_a_folds_fit_begins_changes_nothing(choices: int, gold: int) -> None:
    logs, truth = world(gold, leaning=tuple(np.linspace(-1, 1, choices)))
    weights = np.random.default_rng(2).uniform(0.5, 2, gold)

    for inside, found in cross_fits(logs, truth, weights):
        alone = fit(logs[~inside], truth[~inside], weights[~inside])
        assert found.slope == pytest.approx(alone.slope, abs=1e-6)
        assert found.intercepts == pytest.approx(alone.intercepts, abs=1e-6)
