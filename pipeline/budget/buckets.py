"""A few values for what vLLM's compiled code depends on, so that jobs share it. Pure.

The key of vLLM 0.32's compile cache holds ``max_num_seqs``, ``max_num_batched_tokens``,
``max_model_len``, ``max_logprobs``, the types of weights and cache and the attention backend, but
no memory share, number of blocks or hybrid manager (``VllmConfig.compute_hash`` and the configs'
own). A value that changes with every job would have nearly every job compile anew, a minute each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

SEQUENCES = (16, 32, 64, 128, 256)
SHORTEST_CONTEXT = 4096
_CONTEXT_STEP = 1024  # where the cache holds no power of two that the job could do with
_LEAST_CONTEXT = 16
USUAL_LOGPROBS = 20  # vLLM's own default
_COMPILED = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_model_len",
    "max_logprobs",
    "kv_cache_dtype",
    "attention_backend",
    "dtype",
    "block_size",
    "language_model_only",
    "tensor_parallel_size",
    "cpu_offload_gb",
)
_SPARE = 1.1  # the cache is to be the limit, not the number of requests


def sequences_for(held: Callable[[int], int]) -> int:
    """The ``max_num_seqs`` with which most requests run at once, the smallest of those.

    ``held``: max_num_seqs -> requests of the job's that the cache then holds; the more sequences,
    the more memory they take, so it falls.
    """
    return max(SEQUENCES, key=lambda number: (min(number, held(number) * _SPARE), -number))


def context_for(wanted: int, needed: int, fitting: int, most: int) -> int:
    """A ``max_model_len``: at least ``wanted`` where the cache holds it, else what it holds.

    ``needed``: tokens of the longest request known. ``fitting``: of the longest that the cache
    holds. ``most``: the model's context. 0 where nothing fits.
    """
    lengths = [SHORTEST_CONTEXT]
    while lengths[-1] < most:
        lengths.append(lengths[-1] * 2)
    lengths = [min(length, most) for length in lengths]
    enough = [length for length in lengths if wanted <= length <= fitting]
    if enough:
        return enough[0]
    held = [length for length in lengths if length <= fitting]
    if held and held[-1] >= needed:
        return held[-1]
    stepped = fitting // _CONTEXT_STEP * _CONTEXT_STEP
    if stepped >= max(needed, _CONTEXT_STEP):
        return stepped
    if needed <= (short := 1 << max(0, fitting.bit_length() - 1)) < _CONTEXT_STEP:
        return short if short >= _LEAST_CONTEXT else 0
    return fitting if fitting >= _LEAST_CONTEXT else 0


def logprobs_for(wanted: int) -> int:
    """A ``max_logprobs`` of at least ``wanted``."""
    number = USUAL_LOGPROBS if wanted <= USUAL_LOGPROBS else 64
    while number < wanted:
        number *= 4
    return number


def compile_key(arguments: Mapping[str, Any]) -> str:
    """What compiled code of a model depends on among engine arguments; "" for those with which
    nothing is compiled."""
    if arguments.get("enforce_eager"):
        return ""
    return " ".join(f"{n}={arguments[n]}" for n in _COMPILED if arguments.get(n) is not None)
