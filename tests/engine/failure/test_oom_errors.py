"""How engines word it that memory is too short, as vLLM 0.32 and PyTorch write it."""

from __future__ import annotations

import pickle

import pytest

from pipeline.engine.failure.oom_errors import (
    as_failure,
    is_out_of_memory,
    out_of_memory,
    shortage_in,
)
from pipeline.errors import EngineOutOfMemory, MemoryNeed

SHARE = (
    "Free memory on device cuda:0 (3.20/23.69 GiB) on startup is less than desired GPU memory "
    "utilization (0.92, 21.79 GiB). Decrease GPU memory utilization or reduce GPU memory used by "
    "other processes."
)
CONTEXT = (
    "To serve at least one request with the model's max seq len (131072), (9.00 GiB KV cache is "
    "needed, which is larger than the available KV cache memory (3.10 GiB). Based on the available "
    "memory, the estimated maximum model length is 45000."
)
CACHE = (
    "Available memory on node 0 (12.00/23.00 GiB) on kv cache allocation is less than requested "
    "memory for kv (512.0 GiB). Decrease --kv-cache-memory-bytes, VLLM_CPU_KVCACHE_SPACE, or …"
)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (SHARE, MemoryNeed.SHARE),
        (CONTEXT, MemoryNeed.CONTEXT),
        (CACHE, MemoryNeed.CACHE),
        ("No available memory for the cache blocks. Try increasing …", MemoryNeed.ENGINE),
        ("CUDA out of memory. Tried to allocate 2.00 GiB.", MemoryNeed.ENGINE),
        ("CUDA out of memory occurred when warming up sampler with 256", MemoryNeed.ENGINE),
        ("DefaultCPUAllocator: can't allocate memory: you tried", MemoryNeed.ENGINE),
        ("[Errno 12] Cannot allocate memory", MemoryNeed.ENGINE),
    ],
)
def test_what_is_too_short_is_told_from_the_message(text: str, kind: MemoryNeed) -> None:
    short = shortage_in(text)
    assert short is not None
    assert short.need is kind
    assert is_out_of_memory(ValueError(text))


@pytest.mark.parametrize("text", ["no such file", "the engine made no step for 10 min", ""])
def test_other_troubles_are_none_of_memory(text: str) -> None:
    assert shortage_in(text) is None
    assert not is_out_of_memory(RuntimeError(text))


class OutOfMemoryError(RuntimeError):
    """Named as PyTorch's, which is too slow to import here."""


@pytest.mark.parametrize("error", [MemoryError(), OutOfMemoryError("on device 0")])
def test_the_kind_of_an_error_is_enough(error: Exception) -> None:
    assert is_out_of_memory(error)


def test_what_led_to_an_error_counts() -> None:
    error = RuntimeError("the engine core failed")
    error.__cause__ = MemoryError()

    assert is_out_of_memory(error)


def test_what_was_short_travels_on_the_failure_between_processes() -> None:
    failure = pickle.loads(pickle.dumps(as_failure(ValueError(SHARE))))

    assert isinstance(failure, EngineOutOfMemory)
    assert failure.shortage.need is MemoryNeed.SHARE
    assert failure.shortage.free_share == pytest.approx(3.20 / 23.69)


@pytest.mark.parametrize(("text", "free"), [(CACHE, 12 << 30), (CONTEXT, None)])
def test_what_is_free_is_read(text: str, free: int | None) -> None:
    assert out_of_memory(text).shortage.free_bytes == free
