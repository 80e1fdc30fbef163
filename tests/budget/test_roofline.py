"""The least time a card can need."""

from __future__ import annotations

import pytest

from pipeline.budget.cards.lookup import CARDS
from pipeline.budget.roofline import (
    decode_tokens_per_second,
    knee,
    kv_bytes_read,
)
from pipeline.budget.weights import weight_bytes
from pipeline.model.catalogue import MODELS
from tests.budget.least_time import decode_step_seconds, prefill_seconds

OF_27B = MODELS["gemma-3-27b"].geometry
WEIGHTS = weight_bytes(OF_27B, "int4").total()
RTX_3090, RTX_4090 = CARDS["rtx3090"], CARDS["rtx4090"]


def test_one_request_reads_all_weights_for_every_token() -> None:
    seconds = decode_step_seconds(OF_27B, WEIGHTS, RTX_3090, [1])
    assert seconds == pytest.approx(WEIGHTS / RTX_3090.bandwidth, rel=0.001)


def test_a_request_reads_all_of_global_layers_and_a_window_of_the_others() -> None:
    """Published: 8 KiB a token and layer, 10 global and 52 sliding layers, a window of 1024."""
    assert kv_bytes_read(OF_27B, 4096) == 8192 * (10 * 4096 + 52 * 1024)
    assert kv_bytes_read(OF_27B, 100, dtype_bytes=1) == 4096 * 62 * 100


@pytest.mark.parametrize(("card", "requests"), [("rtx3090", 24), ("rtx4090", 52)])
def test_arithmetic_keeps_pace_up_to_the_published_batch(card: str, requests: int) -> None:
    assert knee(OF_27B, WEIGHTS, CARDS[card]) == requests


def test_beyond_the_knee_a_step_takes_longer_in_proportion() -> None:
    few, many = (decode_step_seconds(OF_27B, WEIGHTS, RTX_3090, [1] * n) for n in (200, 400))
    assert many == pytest.approx(2 * few)


def test_the_rate_is_the_batch_over_the_step() -> None:
    rate = decode_tokens_per_second(OF_27B, WEIGHTS, RTX_4090, batch=8, context=1000)
    assert rate == pytest.approx(8 / decode_step_seconds(OF_27B, WEIGHTS, RTX_4090, [1000] * 8))
    assert decode_tokens_per_second(OF_27B, WEIGHTS, RTX_4090, batch=0, context=1000) == 0


def test_prefill_is_arithmetic_and_grows_faster_than_the_prompt() -> None:
    short, long = (prefill_seconds(OF_27B, n, RTX_4090) for n in (1024, 8192))
    assert long > 8 * short
    assert short == pytest.approx(2 * 25.6e9 * 1024 / RTX_4090.bf16_flops, rel=0.03)
    assert prefill_seconds(OF_27B, 0, RTX_4090) == 0


def test_a_cached_prefix_still_is_attended_to() -> None:
    without, behind = (prefill_seconds(OF_27B, 512, RTX_4090, context=c) for c in (0, 8192))
    assert behind > without


def test_few_tokens_of_prompt_wait_for_the_weights() -> None:
    seconds = prefill_seconds(OF_27B, 2, RTX_4090, weights_bytes=WEIGHTS)
    assert seconds == WEIGHTS / RTX_4090.bandwidth
