"""What to try after an engine ran out of memory: which arguments come next. Pure.

Each rung asks for less than the one before, the cheapest first: on a CPU int4 weights are not
unpacked to bf16; fewer requests at once and a shorter chunk make the activations smaller; an fp8 KV
cache takes half of the memory; a shorter context makes one request smaller, which is allowed only
where all of the job's requests fit it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.budget.attention import FP8_CACHE, is_fp8
from pipeline.errors import MemoryNeed, Shortage
from pipeline.humanize import size

_SEQUENCES, _CHUNKS = (64, 16, 4), (512, 256)
_USUAL_SEQUENCES, _USUAL_CHUNK = 256, 2048  # what vLLM takes where nothing is said, or more
_CONTEXT_STEP = 256  # tokens
_LEAST_CACHE = 64 << 20  # bytes
_CACHE_OF_FREE = 0.5  # the rest is for what computes with it
_SHARE_STEP, _LEAST_SHARE = 0.05, 0.05  # of a card's memory
_SPARED = 0.02  # of what is free, for what comes and goes


@dataclass(frozen=True)
class EngineLimits:
    """What a job and a card allow. ``longest``: tokens of the longest known request, including its
    answer (None: not known). ``fp8``: the card can keep its KV cache in fp8. ``weights_share``: of
    the card's memory that the weights take; a smaller share is useless."""

    longest: int | None = None
    fp8: bool = False
    weights_share: float = 0.0


@dataclass(frozen=True)
class Rung:
    """``arguments`` for ``vllm.EngineArgs``; ``says``: what they change, in words."""

    arguments: dict[str, Any]
    says: str


def next_rung(
    arguments: Mapping[str, Any],
    limits: EngineLimits,
    shortage: Shortage | None = None,
    *,
    running: int | None = None,
) -> Rung | None:
    """What to try after ``arguments``, which needed too much memory; None when nothing is left.

    ``running``: the engine was loaded with them and ran out later, with this many requests at once
    (0: not known).
    """
    short = shortage or Shortage()
    step = _Down(dict(arguments), limits, short)
    ways: tuple[Callable[[int], Rung | None], ...]
    if running is not None:
        ways = (partial(step.half, running), step.chunk, step.share, step.cache)
    elif short.need is MemoryNeed.CACHE:
        ways = (step.cache, step.fp8, step.context)
    elif short.need is MemoryNeed.SHARE:
        ways = (step.share,)
    elif short.need is MemoryNeed.CONTEXT:
        ways = (step.chunk, step.fp8, step.context)
    else:
        ways = (step.packed, step.sequences, step.chunk, step.fp8, step.context, step.cache)
    # each way's first step before any way's second one
    for depth in range(max(len(_SEQUENCES), len(_CHUNKS))):
        for way in ways:
            rung = way(depth)
            if rung is not None:
                return rung
    return None


@dataclass(frozen=True)
class _Down:
    arguments: dict[str, Any]
    limits: EngineLimits
    short: Shortage

    def _to(self, says: str, **changes: Any) -> Rung:
        return Rung(self.arguments | changes, says)

    def packed(self, depth: int) -> Rung | None:
        if depth or self.arguments.get("cpu_compute") != "bf16":
            return None
        return self._to("the weights in int4, not unpacked to bf16", cpu_compute="int4")

    def sequences(self, depth: int) -> Rung | None:
        now = int(self.arguments.get("max_num_seqs") or _USUAL_SEQUENCES)
        if depth >= len(_SEQUENCES) or now <= _SEQUENCES[depth]:
            return None
        fewer = _SEQUENCES[depth]
        return self._to(f"{fewer} requests at once instead of {now}", max_num_seqs=fewer)

    def half(self, running: int, depth: int) -> Rung | None:
        most = int(self.arguments.get("max_num_seqs") or _USUAL_SEQUENCES)
        now = min(running or most, most)
        if depth or now // 2 < _SEQUENCES[-1]:
            return None
        return self._to(f"{now // 2} requests at once instead of {now}", max_num_seqs=now // 2)

    def chunk(self, depth: int) -> Rung | None:
        now = int(self.arguments.get("max_num_batched_tokens") or _USUAL_CHUNK)
        sequences = int(self.arguments.get("max_num_seqs") or _USUAL_SEQUENCES)
        if depth >= len(_CHUNKS) or now <= max(_CHUNKS[depth], sequences):
            return None
        shorter = max(_CHUNKS[depth], sequences)  # a step takes at least one token of each
        says = f"a chunk of {shorter} tokens instead of {now}"
        return self._to(says, max_num_batched_tokens=shorter)

    def fp8(self, depth: int) -> Rung | None:
        if depth or not self.limits.fp8 or is_fp8(self.arguments):
            return None
        return self._to("the KV cache in fp8", **FP8_CACHE)

    def context(self, depth: int) -> Rung | None:
        longest = self.limits.longest
        if depth or longest is None:
            return None
        needed = -(-longest // _CONTEXT_STEP) * _CONTEXT_STEP
        now = int(self.arguments.get("max_model_len") or 0)
        if 0 < now <= needed:
            return None
        before = f" instead of {now}" if now > 0 else ""
        says = f"a context of {needed} tokens{before}, enough for the job's requests"
        return self._to(says, max_model_len=needed)

    def cache(self, _depth: int) -> Rung | None:
        now = int(self.arguments.get("kv_cache_memory_bytes") or 0)
        less = min(now // 2, int((self.short.free_bytes or now) * _CACHE_OF_FREE))
        if less < _LEAST_CACHE:
            return None
        says = f"a KV cache of {size(less)} instead of {size(now)}"
        return self._to(says, kv_cache_memory_bytes=less)

    def share(self, _depth: int) -> Rung | None:
        now = self.arguments.get("gpu_memory_utilization")
        if now is None:
            return None
        less = round(min(now - _SHARE_STEP, (self.short.free_share or 1.0) - _SPARED), 2)
        if less <= max(_LEAST_SHARE, self.limits.weights_share):
            return None
        says = f"{less:.0%} of the card's memory instead of {now:.0%}"
        return self._to(says, gpu_memory_utilization=less)
