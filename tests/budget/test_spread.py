"""Over how many cards an engine spreads, and what each of them holds."""

from __future__ import annotations

import pytest

from pipeline.budget.cards.lookup import find_card
from pipeline.budget.fit.assess import can_share
from pipeline.budget.fit.fit import fit
from pipeline.budget.memory_split import Setup, kv_layout
from pipeline.budget.model_spec import FitOptions, ModelSpec
from pipeline.budget.roofline import exchange_seconds
from pipeline.budget.tensor_parallel import cards_needed
from pipeline.budget.weights import weight_bytes
from pipeline.model.catalogue import MODELS, Precision
from tests.budget.least_time import decode_step_seconds, prefill_seconds

OF_27B = MODELS["gemma-3-27b"].geometry
RTX_3060 = find_card("rtx3060")
ASKED = FitOptions(context=1024)


def subject(size: str, precision: Precision = "int4") -> ModelSpec:
    return ModelSpec.of(MODELS[f"gemma-3-{size}"], precision)


@pytest.mark.parametrize(
    ("size", "card", "alike", "cards"),
    [
        ("12b", "rtx3060", 4, 1),
        ("27b", "rtx3060", 4, 2),
        ("27b", "rtx3060", 1, 1),  # to be refused in the words of one card
        ("27b", "rtx3060ti", 3, 1),
        ("27b", "rtx3060ti", 4, 4),
        ("27b", "rtx3090", 4, 1),
    ],
)
def test_an_engine_takes_as_few_cards_as_hold_its_model(
    size: str, card: str, alike: int, cards: int
) -> None:
    assert cards_needed(subject(size), find_card(card), ASKED, alike) == cards


def test_what_the_job_says_goes_before() -> None:
    options = FitOptions(context=1024, given={"tensor_parallel_size": 4})

    assert cards_needed(subject("1b"), RTX_3060, options, 1) == 4


@pytest.mark.parametrize(
    ("size", "cards", "whole"),
    [
        ("27b", 2, True),  # 32 heads, 16 for keys and values
        ("27b", 3, False),
        ("27b", 16, True),
        ("4b", 8, True),  # 4 heads for keys and values: each on two cards
        ("1b", 4, True),  # 1 head for keys and values
        ("1b", 8, False),  # 4 heads
    ],
)
def test_cards_share_whole_heads(size: str, cards: int, whole: bool) -> None:
    assert can_share(MODELS[f"gemma-3-{size}"].geometry, "int4", cards) is whole


def test_a_number_of_cards_that_cannot_share_a_model_is_refused_with_those_that_can() -> None:
    answer = fit(subject("27b"), RTX_3060, FitOptions(cards=3))

    assert not answer.fits
    assert answer.unsupported
    assert "cannot be divided among 3 cards" in answer.reason
    assert "2, 4 or 8 cards can share them" in answer.reason


class TestOneOfTwoCards:
    def test_it_has_half_of_the_layers_and_embeddings_and_all_norms(self) -> None:
        """vLLM shards them so (``VocabParallelEmbedding``, ``QKVParallelLinear``, …)."""
        weights = weight_bytes(OF_27B, "int4")
        half = (weights.linear_bytes + weights.embedding_bytes) // 2

        assert weights.on_card(OF_27B, 2) == half + weights.norm_bytes

    def test_a_single_head_for_keys_and_values_is_on_both(self) -> None:
        geometry = MODELS["gemma-3-1b"].geometry
        weights = weight_bytes(geometry, "bf16")
        keys_values = 2 * 2 * geometry.layers * geometry.hidden * geometry.head_dim  # bytes
        rest = weights.linear_bytes - keys_values + weights.embedding_bytes

        assert weights.on_card(geometry, 2) == rest // 2 + keys_values + weights.norm_bytes

    @pytest.mark.parametrize(("cards", "heads"), [(1, 16), (2, 8), (4, 4), (16, 1)])
    def test_its_blocks_hold_its_share_of_the_heads(self, cards: int, heads: int) -> None:
        layout = kv_layout(OF_27B, RTX_3060, Setup(cards=cards))

        assert layout.block_bytes == 10 * 16 * 2 * heads * 128 * 2

    def test_a_request_takes_as_many_blocks_as_on_one_card(self) -> None:
        one, two = (kv_layout(OF_27B, RTX_3060, Setup(cards=n)) for n in (1, 2))

        assert one.blocks(4000) == two.blocks(4000)


class TestTime:
    def test_one_card_has_nobody_to_tell(self) -> None:
        assert exchange_seconds(OF_27B, 100, 100, 1) == 0

    def test_a_step_takes_half_the_time_and_that_of_the_exchange(self) -> None:
        weights = weight_bytes(OF_27B, "int4").text_bytes
        one, two = (
            decode_step_seconds(OF_27B, weights, RTX_3060, [500] * 4, cards=n) for n in (1, 2)
        )
        assert two == pytest.approx(one / 2 + exchange_seconds(OF_27B, 4, 4, 2))

    def test_more_tokens_are_more_to_tell(self) -> None:
        one, two = (
            prefill_seconds(OF_27B, n, RTX_3060, cards=2) - prefill_seconds(OF_27B, n, RTX_3060) / 2
            for n in (1000, 2000)
        )
        assert two == pytest.approx(2 * one)
