"""A candidate beside its reference: the statistics against ones computed from whole
distributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.comparison.picture import draw_quality
from pipeline.report.comparison.quality import CandidateQuality, RowSums, assess, compare_rows
from pipeline.rows.request import Scores
from tests.support.samples import quick

VOCABULARY = 4000


def distributions(
    positions: int, noise: float, seed: int = 0, vocabulary: int = VOCABULARY
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities [positions, vocabulary] with long tails, and the same ones disturbed."""
    dice = np.random.default_rng(seed)
    logits = dice.normal(0, 3, (positions, vocabulary))
    other = logits + dice.normal(0, noise, logits.shape)
    return _log_softmax(logits), _log_softmax(other)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    highest = logits.max(1, keepdims=True)
    return logits - highest - np.log(np.exp(logits - highest).sum(1, keepdims=True))


def top(logp: np.ndarray, k: int) -> Scores:
    """What an engine gives for tokens 0, 1, 2, …"""
    tokens = np.arange(len(logp))
    ids = np.argsort(-logp, axis=1)[:, :k]
    return Scores(
        tokens.astype(np.int32),
        logp[tokens, tokens].astype(np.float32),
        ids.astype(np.int32),
        np.take_along_axis(logp, ids, 1).astype(np.float32),
    )


def exact_kl(p: np.ndarray, q: np.ndarray) -> float:
    return float((np.exp(p) * (p - q)).sum(1).mean())


def quality(p: np.ndarray, q: np.ndarray, k: int, row: int = 20) -> CandidateQuality:
    lengths = [row] * (len(p) // row)
    return assess(compare_rows(top(p, k), top(q, k), lengths), resamples=200)


class TestDivergence:
    @quick
    @given(st.integers(0, 10_000), st.floats(0.05, 3), st.integers(1, 300))
    def test_the_bound_is_never_above_the_exact_value(
        self, seed: int, noise: float, k: int
    ) -> None:
        p, q = distributions(20, noise, seed, vocabulary=300)

        assert quality(p, q, k).kl_lower_bound <= exact_kl(p, q) + 1e-5

    def test_whole_distributions_give_the_exact_value(self) -> None:
        p, q = distributions(40, 0.5)

        made = quality(p, q, VOCABULARY)

        assert made.kl_lower_bound == pytest.approx(exact_kl(p, q), rel=1e-4)
        assert made.kl.value == pytest.approx(exact_kl(p, q), rel=1e-4)

    def test_the_bound_rises_with_the_length_of_the_lists(self) -> None:
        p, q = distributions(40, 0.5)

        bounds = [quality(p, q, k).kl_lower_bound for k in (16, 64, 256, 1024)]

        assert bounds == sorted(bounds)

    def test_the_estimate_makes_up_for_what_the_lists_leave_out(self) -> None:
        p, q = distributions(400, 0.5)

        made = quality(p, q, 256)

        assert made.kl_lower_bound < 0.95 * exact_kl(p, q)
        assert made.kl.value == pytest.approx(exact_kl(p, q), rel=0.02)

    def test_a_model_does_not_differ_from_itself(self) -> None:
        p, _ = distributions(40, 1)

        made = quality(p, p, 64)

        assert made.kl.value == pytest.approx(0, abs=1e-6)
        assert made.ratio.value == 1
        assert made.agreement.value == 1


class TestStatistics:
    def test_perplexities_weigh_tokens_alike(self) -> None:
        p, q = distributions(30, 1)
        rows = compare_rows(top(p, 8), top(q, 8), [25, 5])

        made = assess(rows)

        tokens = np.arange(30)
        own, other = (np.exp(-x[tokens, tokens].mean()) for x in (p, q))
        assert made.reference_perplexity.value == pytest.approx(own, rel=1e-5)
        assert made.perplexity.value == pytest.approx(other, rel=1e-5)
        assert made.ratio.value == pytest.approx(other / own, rel=1e-5)
        assert made.difference.value == pytest.approx(other - own, rel=1e-4)
        assert (made.rows, made.tokens) == (2, 30)

    def test_agreement_is_the_share_of_equal_first_choices(self) -> None:
        p, q = distributions(200, 2)

        assert quality(p, q, 4).agreement.value == (p.argmax(1) == q.argmax(1)).mean()

    def test_intervals_hold_the_value_and_repeat(self) -> None:
        p, q = distributions(400, 1)

        made = quality(p, q, 16)

        assert made == quality(p, q, 16)
        for interval in (made.perplexity, made.ratio, made.kl, made.agreement):
            assert interval.low < interval.value < interval.high

    def test_what_is_paired_is_known_better_than_each_alone(self) -> None:
        """Both models read the same texts: what makes a text hard, makes it hard for both."""
        p, q = distributions(2000, 0.1)

        made = quality(p, q, 4)

        spread = made.perplexity.high / made.perplexity.low
        assert made.ratio.high / made.ratio.low < 1 + (spread - 1) / 2

    def test_an_interval_of_95_percent_holds_the_truth_about_that_often(self) -> None:
        p, q = distributions(8000, 1, vocabulary=60)
        truth = (p.argmax(1) == q.argmax(1)).mean()
        hits = 0
        for number in range(100):
            part = slice(80 * number, 80 * (number + 1))
            tokens = np.zeros(80, int)
            one, other = (
                Scores(
                    tokens, x[part, 0], np.argsort(-x[part], 1)[:, :2], -np.sort(-x[part], 1)[:, :2]
                )
                for x in (p, q)
            )
            made = assess(compare_rows(one, other, [1] * 80), resamples=300).agreement
            hits += made.low <= truth <= made.high
        assert hits >= 85

    def test_different_tokens_do_not_compare(self) -> None:
        p, _ = distributions(4, 1)
        one, other = top(p, 2), top(p[:3], 2)

        with pytest.raises(ValueError, match="different tokens"):
            compare_rows(one, other, [4])

    def test_no_rows_do_not_compare(self) -> None:
        nothing = np.zeros(0)
        with pytest.raises(ValueError, match="no rows"):
            assess(RowSums(*[nothing] * 8))

    def test_parts_join_to_the_same_rows(self) -> None:
        p, q = distributions(40, 1)
        whole = compare_rows(top(p, 8), top(q, 8), [10, 30])

        joined = RowSums.joined([_rows(whole, 0), _rows(whole, 1)])

        assert assess(joined) == assess(whole)


def _rows(sums: RowSums, number: int) -> RowSums:
    return RowSums(*(v[number : number + 1] for v in vars(sums).values()))


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_a_comparison_becomes_a_picture(noise: float) -> None:
    p, q = distributions(40, noise)
    made = quality(p, q, 16)

    content = draw_quality("reference", [("one", made), ("x" * 80, made)], "text of data.csv")

    assert content.startswith(b"\x89PNG")
