"""Engine arguments for what a job leaves open, each with its reason. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.budget.kv import KvLayout
from pipeline.model.geometry import Geometry

GIB = 1 << 30
_CPU_KV_BYTES = GIB
_CPU_MAX_NUM_SEQS = 256
_CPU_CHUNK = 2048


@dataclass(frozen=True)
class PromptShape:
    """What a sample of the job's prompts looks like, in tokens."""

    mean: float
    longest: int
    shared_prefix: int


def cpu_arguments(
    geometry: Geometry, given: dict[str, Any], shape: PromptShape, ram_bytes: int
) -> dict[str, Any]:
    """vLLM arguments for an engine on CPU: ``given`` ones as they are, the others chosen.

    - ``enforce_eager``: compiling takes a minute and a C++ compiler for a gain of a tenth.
    - ``block_size`` 32: the prefix cache works in whole blocks, so small ones lose the least of
      a shared prefix; the CPU kernels take multiples of 32 (vLLM's default there is 128).
    - ``kv_cache_memory_bytes``: 1 GiB (clearing memory costs 1.5 s a GiB at start), more if the
      longest sampled prompt needs it, at most a quarter of the RAM.
    - ``max_model_len``: the model's context, or what the KV cache can hold of it.
    """
    chosen: dict[str, Any] = {
        "enforce_eager": True,
        "block_size": 32,
        "max_num_seqs": _CPU_MAX_NUM_SEQS,
        "max_num_batched_tokens": _CPU_CHUNK,
    } | given
    layout = KvLayout(geometry, chosen["block_size"], chosen["max_num_batched_tokens"])
    if "kv_cache_memory_bytes" not in chosen:
        needed = 2 * layout.prefill_blocks(shape.longest) * layout.block_bytes
        chosen["kv_cache_memory_bytes"] = max(_CPU_KV_BYTES, min(needed, ram_bytes // 4))
    if "max_model_len" not in chosen:
        blocks = chosen.get(
            "num_gpu_blocks_override", layout.num_blocks(chosen["kv_cache_memory_bytes"])
        )
        chosen["max_model_len"] = longest_request(layout, blocks - 1)
    return chosen


def gpu_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """vLLM arguments for an engine on a GPU: vLLM measures the card and fits the context to it."""
    return {"max_model_len": -1} | given


def longest_request(layout: KvLayout, blocks: int) -> int:
    """The most tokens, up to the model's context, whose prefill fits ``blocks``."""
    low, high = 0, layout.geometry.context
    while low < high:
        middle = (low + high + 1) // 2
        if layout.prefill_blocks(middle) <= blocks:
            low = middle
        else:
            high = middle - 1
    return low
