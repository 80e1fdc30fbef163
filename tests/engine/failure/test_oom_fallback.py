"""What an engine tries with too little memory: less, and less again, and then no more."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.engine.failure.oom_fallback import EngineLimits, Rung, next_rung
from pipeline.errors import MemoryNeed, Shortage

GPU: dict[str, Any] = {
    "max_num_seqs": 256,
    "max_num_batched_tokens": 2048,
    "kv_cache_dtype": "auto",
    "max_model_len": 8192,
    "gpu_memory_utilization": 0.92,
}
CPU: dict[str, Any] = {
    "max_num_seqs": 256,
    "max_num_batched_tokens": 2048,
    "max_model_len": 8192,
    "kv_cache_memory_bytes": 1 << 30,
}


def descent(arguments: dict[str, Any], limits: EngineLimits, **more: Any) -> list[Rung]:
    """Every rung down to the last."""
    rungs: list[Rung] = []
    while rung := next_rung(arguments, limits, **more):
        rungs.append(rung)
        arguments = rung.arguments
        assert len(rungs) < 100, "there is no end to it"
    return rungs


def test_the_way_down_says_what_it_takes_away() -> None:
    assert [rung.says for rung in descent(GPU, EngineLimits(longest=1000, fp8=True))] == [
        "64 requests at once instead of 256",
        "a chunk of 512 tokens instead of 2048",
        "the KV cache in fp8",
        "a context of 1024 tokens instead of 8192, enough for the job's requests",
        "16 requests at once instead of 64",
        "a chunk of 256 tokens instead of 512",
        "4 requests at once instead of 16",
    ]


def test_unpacked_weights_are_the_first_thing_to_go() -> None:
    rung = next_rung(CPU | {"cpu_compute": "bf16"}, EngineLimits())
    assert rung is not None
    assert rung.arguments == CPU | {"cpu_compute": "int4"}


@pytest.mark.parametrize("need", list(MemoryNeed))
def test_fp8_comes_with_an_attention_backend_that_has_it(need: MemoryNeed) -> None:
    """vLLM by itself would take FlashInfer, which has to be compiled."""
    start = GPU | {"attention_backend": "FLASH_ATTN", "kv_cache_memory_bytes": 1 << 30}
    for rung in descent(start, EngineLimits(1000, fp8=True), shortage=Shortage(need)):
        fp8 = rung.arguments["kv_cache_dtype"] == "fp8"
        assert rung.arguments["attention_backend"] == ("TRITON_ATTN" if fp8 else "FLASH_ATTN")


def test_a_card_without_fp8_keeps_its_cache_as_it_is() -> None:
    assert all("fp8" not in rung.says for rung in descent(GPU, EngineLimits(longest=1000)))


@pytest.mark.parametrize("longest", [None, 8192, 20_000])
def test_the_context_stays_where_the_jobs_requests_need_it(longest: int | None) -> None:
    rungs = descent(GPU, EngineLimits(longest, fp8=True))

    assert {rung.arguments["max_model_len"] for rung in rungs} == {8192}


def test_what_does_not_help_is_not_tried() -> None:
    rungs = descent(GPU, EngineLimits(1000, fp8=True), shortage=Shortage(MemoryNeed.CONTEXT))

    assert [rung.arguments["max_num_seqs"] for rung in rungs] == [256] * len(rungs)
    assert rungs[-1].arguments["max_model_len"] == 1024


def test_a_chunk_holds_a_token_of_every_request() -> None:
    for rung in descent(
        GPU | {"max_num_seqs": 1024}, EngineLimits(), shortage=Shortage(MemoryNeed.CONTEXT)
    ):
        assert rung.arguments["max_num_batched_tokens"] >= 1024


def test_a_cache_that_is_too_large_is_halved() -> None:
    rung = next_rung(CPU, EngineLimits(), Shortage(MemoryNeed.CACHE))

    assert rung is not None
    assert rung.arguments == CPU | {"kv_cache_memory_bytes": 1 << 29}


def test_a_cache_far_too_large_is_cut_to_what_is_free_at_once() -> None:
    arguments = CPU | {"kv_cache_memory_bytes": 1 << 40}
    rung = next_rung(arguments, EngineLimits(), Shortage(MemoryNeed.CACHE, 20 << 30, 64 << 30))

    assert rung is not None
    assert rung.says == "a KV cache of 10.0 GiB instead of 1024.0 GiB"


def test_a_card_that_others_use_too_is_taken_less_of() -> None:
    rung = next_rung(GPU, EngineLimits(), Shortage(MemoryNeed.SHARE, 6, 10))

    assert rung is not None
    assert rung.arguments["gpu_memory_utilization"] == 0.58


def test_what_others_leave_is_taken_where_the_weights_fit_it() -> None:
    rung = next_rung(GPU, EngineLimits(weights_share=0.04), Shortage(MemoryNeed.SHARE, 4, 24))

    assert rung is not None
    assert rung.arguments["gpu_memory_utilization"] == 0.15


def test_a_share_that_does_not_hold_the_weights_is_not_tried() -> None:
    limits = EngineLimits(weights_share=0.68)
    assert next_rung(GPU, limits, Shortage(MemoryNeed.SHARE, 12, 24)) is None
    assert next_rung(GPU, EngineLimits(), Shortage(MemoryNeed.SHARE, 1, 24)) is None


def test_while_running_the_model_keeps_its_context() -> None:
    rungs = descent(GPU, EngineLimits(1000, fp8=True), running=100)

    assert rungs[0].says == "50 requests at once instead of 100"
    assert all(rung.arguments["max_model_len"] == 8192 for rung in rungs)
    assert min(rung.arguments["gpu_memory_utilization"] for rung in rungs) < 0.5


@pytest.mark.parametrize("start", [GPU, CPU, {}])
@pytest.mark.parametrize("need", list(MemoryNeed))
@pytest.mark.parametrize("running", [None, 0, 100])
def test_every_way_down_has_an_end(
    start: dict[str, Any], need: MemoryNeed, running: int | None
) -> None:
    rungs = descent(start, EngineLimits(1000, fp8=True), shortage=Shortage(need), running=running)

    assert len({str(rung.arguments) for rung in rungs}) == len(rungs)
