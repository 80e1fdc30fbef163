"""Engine arguments that a job leaves open."""

from __future__ import annotations

import itertools
import re
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.budget.buckets import SEQUENCES
from pipeline.budget.cards.lookup import CARDS, cpu_card
from pipeline.budget.engine_arguments import (
    EngineChoice,
    PromptShape,
    choose_settings,
    cpu_arguments,
    longest_request,
    scoring_arguments,
    setup_of,
)
from pipeline.budget.fit.advice import refusal
from pipeline.budget.fit.fit import fit
from pipeline.budget.kv_layout import KvLayout
from pipeline.budget.memory_split import memory_split
from pipeline.budget.model_spec import FitOptions, ModelSpec
from pipeline.budget.weights import weight_bytes
from pipeline.job.job import Score
from pipeline.model.catalogue import MODELS, Precision
from tests.support.samples import GEMMA_27B, GEMMA_270M, quick

pytestmark = pytest.mark.early

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


def test_a_cpu_engine_gets_a_gib_of_cache_for_short_prompts() -> None:
    assert cpu()["kv_cache_memory_bytes"] == GIB


def test_a_cpu_engine_gets_more_for_a_prompt_that_needs_it() -> None:
    """27B: a token costs half a MiB."""
    shape = PromptShape(mean=1e4, longest=20_000, shared_prefix=0)
    chosen = cpu_arguments(GEMMA_27B, {}, shape, 64 * GIB)
    layout = KvLayout(GEMMA_27B, chosen["block_size"], chosen["max_num_batched_tokens"])

    assert GIB < chosen["kv_cache_memory_bytes"] <= 16 * GIB
    assert layout.num_gpu_blocks(chosen["kv_cache_memory_bytes"]) > layout.prefill_blocks(20_000)


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
    weights = weight_bytes(model.geometry, precision, vision=model.vision_parameters)
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
        assert choice.arguments["max_model_len"] == 16_384

    def test_the_context_is_what_the_cache_holds_where_that_is_less(self) -> None:
        model = MODELS["gemma-3-27b"]
        choice = choose("27b", "rtx3090", mean=9000, longest=20_000)
        weights = weight_bytes(model.geometry, "int4", vision=model.vision_parameters)
        card = CARDS["rtx3090"]
        there = memory_split(model.geometry, weights, card, setup_of(choice.arguments, card))
        length = choice.arguments["max_model_len"]
        assert 20_000 < length < 80_000
        assert there.layout.prefill_blocks(length) < there.num_gpu_blocks

    def test_smaller_batches_make_room_for_a_long_request(self) -> None:
        name = "max_num_batched_tokens"
        assert choose("27b", "rtx3090", longest=4000).arguments[name] == 2048
        long = choose("27b", "rtx3090", longest=32_000, max_tokens=768)
        assert long.arguments[name] < 2048
        assert "no room for a request of 32768 tokens" in long.reasons[name]

    def test_the_context_is_never_more_than_the_models(self) -> None:
        assert choose("1b", "rtx4090", longest=30_000).arguments["max_model_len"] == 32_768


FP8_CARDS = [name for name, card in CARDS.items() if card.has_fp8_kv]
JOBS = list(itertools.product((12, 300, 900, 2600), (8, 100, 600), (0, 0.8)))


@cache
def choose_job(size: str, card: str, prompt: int, answer: int, share: float, **given: Any):
    shared = int(prompt * share)
    return choose(
        size, card, given, mean=prompt, longest=prompt * 2, shared=shared, max_tokens=answer
    )


class TestAttention:
    """FlashInfer compiles with a CUDA toolkit, so vLLM is never left to choose."""

    @pytest.mark.parametrize("size", ["270m", "1b", "4b", "12b", "27b"])
    def test_a_cache_in_fp8_comes_with_triton_and_one_in_bf16_with_flash(self, size: str) -> None:
        for card, (prompt, answer, share) in itertools.product(FP8_CARDS, JOBS):
            chosen = choose_job(size, card, prompt, answer, share).arguments
            fp8 = chosen["kv_cache_dtype"] == "fp8"
            assert chosen["attention_backend"] == ("TRITON_ATTN" if fp8 else "FLASH_ATTN")

    @pytest.mark.parametrize("dtype", ["fp8", "fp8_e4m3", "fp8_e5m2"])
    def test_fp8_that_is_given_comes_with_triton(self, dtype: str) -> None:
        given = choose("1b", "rtx4090", {"kv_cache_dtype": dtype}).arguments
        assert given["attention_backend"] == "TRITON_ATTN"

    def test_what_flash_attention_has_no_kernel_for_is_tritons(self) -> None:
        for asked in ({"dtype": "float32"}, {"language_model_only": False}):
            chosen = choose("4b", "rtx3090", asked, precision="bf16").arguments
            assert chosen["attention_backend"] == "TRITON_ATTN"

    def test_a_backend_that_is_given_keeps_the_cache_in_what_it_can(self) -> None:
        given = {"attention_backend": "FLASH_ATTN"}
        chosen = choose("27b", "rtx4090", given).arguments
        assert chosen.items() >= (given | {"kv_cache_dtype": "auto"}).items()

    def test_a_backend_that_cannot_is_said_beforehand_with_the_fix(self) -> None:
        model = ModelSpec.of(MODELS["gemma-3-27b"], "int4")
        given = {"attention_backend": "FLASH_ATTN", "kv_cache_dtype": "fp8"}
        asked = fit(model, CARDS["rtx4090"], FitOptions.from_arguments(given, 1000))
        assert not asked.fits
        assert "leave engine.attention_backend out" in asked.reason
        assert "cannot run on" in str(refusal(asked))

    def test_hopper_has_flash_attention_for_fp8(self) -> None:
        model = ModelSpec.of(MODELS["gemma-3-27b"], "int4")
        given = {"attention_backend": "FLASH_ATTN", "kv_cache_dtype": "fp8"}
        assert fit(model, CARDS["h100"], FitOptions.from_arguments(given, 1000)).fits


class TestFewValues:
    """What vLLM's compiled code depends on takes few values, so that jobs share it."""

    @pytest.mark.parametrize("size", ["270m", "1b", "4b", "12b", "27b"])
    def test_neighbouring_jobs_have_the_same(self, size: str) -> None:
        compiled = ("max_num_seqs", "max_model_len", "max_num_batched_tokens", "kv_cache_dtype")
        for card in ("rtx3060", "rtx3090", "rtx4090", "rtx5090"):
            for prompt, answer in ((200, 60), (1000, 300)):
                one, other = (
                    choose_job(size, card, p, answer, 0).arguments
                    for p in (prompt, prompt + prompt // 50)
                )
                assert [one[n] for n in compiled] == [other[n] for n in compiled]

    @pytest.mark.parametrize("size", ["270m", "1b", "4b", "12b", "27b"])
    def test_all_jobs_together_have_few(self, size: str) -> None:
        for card in CARDS:
            chosen = [
                arguments
                for job in JOBS
                for arguments in [choose_job(size, card, *job).arguments]
                # where the longest request takes all of the cache, the context is just that
                if arguments["max_model_len"] >= 2 * (2 * job[0] + job[1])
            ]
            sequences = {c["max_num_seqs"] for c in chosen}
            contexts = {c["max_model_len"] for c in chosen}
            assert sequences <= set(SEQUENCES)
            assert all(c % 1024 == 0 or c & (c - 1) == 0 for c in contexts)
            assert len({(c["max_num_seqs"], c["max_model_len"]) for c in chosen}) <= 12

    def test_more_sequences_are_not_bought_with_fewer_requests(self) -> None:
        """No other number would let more requests run at once."""
        for size, card, job in itertools.product(("4b", "27b"), ("rtx3090", "rtx4060ti"), JOBS):
            best = choose_job(size, card, *job)
            names = ("kv_cache_dtype", "disable_hybrid_kv_cache_manager")
            same = {n: best.arguments[n] for n in names if n in best.arguments}
            for number in SEQUENCES:
                other = choose_job(size, card, *job, max_num_seqs=number, **same)
                at_once = min(number, other.requests)
                assert at_once <= 1.1 * min(best.arguments["max_num_seqs"], best.requests)

    @pytest.mark.parametrize(("top_k", "most"), [(None, 20), (5, 20), (21, 64), (65, 256)])
    def test_scores_of_similar_depth_too(self, top_k: int | None, most: int) -> None:
        assert scoring_arguments(Score(top_k=top_k), {})["max_logprobs"] == most


def test_one_answer_has_one_number_of_requests() -> None:
    """Reasons, choice and memory say the same, for every size on every card."""
    for size, card, job in itertools.product(("270m", "12b", "27b"), CARDS, JOBS):
        choice = choose_job(size, card, *job)
        model = MODELS[f"gemma-3-{size}"]
        weights = weight_bytes(model.geometry, "int4", vision=model.vision_parameters)
        there = memory_split(
            model.geometry, weights, CARDS[card], setup_of(choice.arguments, CARDS[card])
        )
        prompt, _, share = job
        held = there.layout.requests(
            there.num_gpu_blocks, choice.request_tokens, int(prompt * share)
        )
        assert held == choice.requests
        reason = choice.reasons["max_num_seqs"]
        assert reason.startswith(f"{held} requests of {choice.request_tokens} tokens")
        for name in ("kv_cache_dtype", "disable_hybrid_kv_cache_manager"):
            said = re.search(r"(\d+) requests", choice.reasons.get(name, ""))
            assert said is None or int(said[1]) == held, (size, card, job, choice.reasons)


def test_a_processors_choices_are_those_of_before_with_reasons() -> None:
    model = MODELS["gemma-3-270m"]
    weights = weight_bytes(model.geometry, "int4")
    card = cpu_card(16 * GIB, 2)
    choice = choose_settings(model.geometry, weights, card, SHORT, 10, {"seed": 7})
    chosen = {k: v for k, v in choice.arguments.items() if k != "cpu_compute"}
    assert chosen == cpu_arguments(
        model.geometry, {"seed": 7}, PromptShape(40.0, 100, 10), 16 * GIB
    )
    assert choice.reasons["seed"] == "given"
    assert all(choice.reasons[name] for name in ("block_size", "max_model_len"))
