"""Engine arguments that a job leaves open."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.budget.kv import KvLayout
from pipeline.budget.settings import PromptShape, cpu_arguments, gpu_arguments, longest_request
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
