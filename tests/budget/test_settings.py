"""Engine arguments that a job leaves open."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.budget.cards import CARDS, cpu_card
from pipeline.budget.kv import KvLayout
from pipeline.budget.room import room
from pipeline.budget.settings import (
    EngineChoice,
    PromptShape,
    choose_settings,
    cpu_arguments,
    gpu_arguments,
    longest_request,
    setup_of,
)
from pipeline.budget.weights import weight_bytes
from pipeline.model.catalogue import MODELS, Precision
from tests.samples import GEMMA_27B, GEMMA_270M, quick

GIB = 1 << 30
SHORT = PromptShape(mean=40.0, longest=90, shared_prefix=10)


def cpu(given: dict[str, Any] | None = None, longest: int = 90, ram: int = 16 * GIB):
    shape = PromptShape(mean=40.0, longest=longest, shared_prefix=10)
    return cpu_arguments(GEMMA_270M, given or {}, shape, ram)


@pytest.mark.parametrize(
    "argument",
    [
        {"block_size": 128},
        {"max_num_seqs": 3},
        {"max_num_batched_tokens": 512},
        {"kv_cache_memory_bytes": 5 * GIB},
        {"max_model_len": 64},
        {"enforce_eager": False},
        {"seed": 7},
    ],
)
def test_what_a_job_gives_stays(argument: dict[str, Any]) -> None:
    assert cpu(argument).items() >= argument.items()
    assert gpu_arguments(argument).items() >= argument.items()


def test_a_cpu_engine_gets_a_gib_of_cache_for_short_prompts() -> None:
    assert cpu()["kv_cache_memory_bytes"] == GIB


def test_a_cpu_engine_gets_more_for_a_prompt_that_needs_it() -> None:
    """27B: a token costs half a MiB."""
    shape = PromptShape(mean=1e4, longest=20_000, shared_prefix=0)
    chosen = cpu_arguments(GEMMA_27B, {}, shape, 64 * GIB)
    layout = KvLayout(GEMMA_27B, chosen["block_size"], chosen["max_num_batched_tokens"])

    assert GIB < chosen["kv_cache_memory_bytes"] <= 16 * GIB
    assert layout.num_blocks(chosen["kv_cache_memory_bytes"]) > layout.prefill_blocks(20_000)


def test_a_cpu_engine_takes_at_most_a_quarter_of_the_memory() -> None:
    shape = PromptShape(mean=1e5, longest=100_000, shared_prefix=0)

    assert cpu_arguments(GEMMA_27B, {}, shape, 16 * GIB)["kv_cache_memory_bytes"] == 4 * GIB


def test_the_context_is_the_models_where_the_cache_holds_it() -> None:
    assert cpu({"kv_cache_memory_bytes": 8 * GIB})["max_model_len"] == GEMMA_270M.context


def test_the_context_is_what_a_small_cache_holds() -> None:
    chosen = cpu({"num_gpu_blocks_override": 200})
    layout = KvLayout(GEMMA_270M, 32, 2048)

    assert 0 < chosen["max_model_len"] < GEMMA_270M.context
    assert layout.prefill_blocks(chosen["max_model_len"]) <= 199


@quick
@given(st.integers(0, 5000), st.sampled_from([16, 32, 128]))
def test_the_longest_request_fits_and_a_longer_one_does_not(blocks: int, block_size: int) -> None:
    layout = KvLayout(GEMMA_270M, block_size, 2048)

    longest = longest_request(layout, blocks)

    assert longest == 0 or layout.prefill_blocks(longest) <= blocks
    if longest < GEMMA_270M.context:
        assert layout.prefill_blocks(longest + 1) > blocks


def test_a_gpu_engine_lets_vllm_fit_the_context() -> None:
    assert gpu_arguments({}) == {"max_model_len": -1}


def choose(
    size: str,
    card: str,
    given: dict[str, Any] | None = None,
    *,
    mean: int = 300,
    longest: int = 500,
    shared: int = 0,
    max_tokens: int = 100,
    precision: Precision = "int4",
) -> EngineChoice:
    model = MODELS[f"gemma-3-{size}"]
    weights = weight_bytes(model.geometry, precision, vision=model.vision)
    shape = PromptShape(mean, longest, shared)
    return choose_settings(model.geometry, weights, CARDS[card], shape, max_tokens, given or {})


class TestOnAGpu:
    def test_every_choice_has_its_reason(self) -> None:
        choice = choose("27b", "rtx3090")
        assert set(choice.reasons) == set(choice.arguments)
        assert all(choice.reasons.values())

    def test_what_is_given_stays_and_says_so(self) -> None:
        given = {"max_num_seqs": 3, "kv_cache_dtype": "auto", "gpu_memory_utilization": 0.5}
        choice = choose("27b", "rtx4090", given)
        assert choice.arguments.items() >= given.items()
        assert {choice.reasons[name] for name in given} == {"given"}

    def test_the_cache_is_fp8_where_it_is_the_limit_and_the_card_has_it(self) -> None:
        assert choose("27b", "rtx4090").arguments["kv_cache_dtype"] == "fp8"
        assert choose("27b", "rtx3090").arguments["kv_cache_dtype"] == "auto"
        assert choose("1b", "rtx4090").arguments["kv_cache_dtype"] == "auto"

    def test_short_requests_of_27b_do_without_the_hybrid_manager(self) -> None:
        name = "disable_hybrid_kv_cache_manager"
        assert choose("27b", "rtx3090", mean=600).arguments[name] is True
        assert name not in choose("27b", "rtx3090", mean=2000, longest=3000).arguments
        assert name not in choose("12b", "rtx3090", mean=600).arguments

    def test_the_vision_tower_is_left_out_where_there_is_one(self) -> None:
        assert choose("4b", "rtx3090").arguments["language_model_only"] is True
        assert "language_model_only" not in choose("1b", "rtx3090").arguments

    def test_the_number_of_requests_is_what_the_cache_holds_and_a_little_more(self) -> None:
        short, long = (choose("12b", "rtx3090", mean=m, longest=m) for m in (500, 4000))
        assert short.arguments["max_num_seqs"] > long.arguments["max_num_seqs"] >= 22
        assert choose("1b", "rtx4090").arguments["max_num_seqs"] == 256

    def test_a_shared_prefix_makes_room_for_more(self) -> None:
        own, shared = (choose("12b", "rtx3090", mean=1000, shared=s) for s in (0, 800))
        assert shared.arguments["max_num_seqs"] > 2 * own.arguments["max_num_seqs"]

    def test_the_context_leaves_room_for_rows_that_were_not_sampled(self) -> None:
        choice = choose("4b", "rtx3090", longest=3000, max_tokens=1000)
        assert choice.arguments["max_model_len"] == 16_128

    def test_the_context_is_what_the_cache_holds_where_that_is_less(self) -> None:
        model = MODELS["gemma-3-27b"]
        choice = choose("27b", "rtx3090", mean=9000, longest=20_000)
        weights = weight_bytes(model.geometry, "int4", vision=True)
        card = CARDS["rtx3090"]
        there = room(model.geometry, weights, card, setup_of(choice.arguments, card))
        length = choice.arguments["max_model_len"]
        assert 20_000 < length < 80_000
        assert there.layout.prefill_blocks(length) < there.num_blocks

    def test_smaller_batches_make_room_for_a_long_request(self) -> None:
        name = "max_num_batched_tokens"
        assert choose("27b", "rtx3090", longest=4000).arguments[name] == 2048
        long = choose("27b", "rtx3090", longest=32_000, max_tokens=768)
        assert long.arguments[name] < 2048
        assert "no room for a request of 32768 tokens" in long.reasons[name]

    def test_the_context_is_never_more_than_the_models(self) -> None:
        assert choose("1b", "rtx4090", longest=30_000).arguments["max_model_len"] == 32_768


def test_a_processors_choices_are_those_of_before_with_reasons() -> None:
    model = MODELS["gemma-3-270m"]
    weights = weight_bytes(model.geometry, "int4")
    card = cpu_card(16 * GIB, 2)
    choice = choose_settings(model.geometry, weights, card, SHORT, 10, {"seed": 7})
    assert choice.arguments == cpu_arguments(
        model.geometry, {"seed": 7}, PromptShape(40.0, 100, 10), 16 * GIB
    )
    assert choice.reasons["seed"] == "given"
    assert all(choice.reasons[name] for name in ("block_size", "max_model_len"))
