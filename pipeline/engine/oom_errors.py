"""Whether an engine failed for want of memory: how vLLM 0.32 and PyTorch 2.13 word it."""

from __future__ import annotations

import re
from enum import Enum

from pipeline.budget.cards.lookup import GIB
from pipeline.errors import EngineFailed, EngineOutOfMemory, RackmillError

_NO_CONTEXT = ("is needed, which is larger than the available KV cache memory",)
_NO_CACHE = ("is less than requested memory for kv",)
_NO_SHARE = (
    "is less than desired gpu memory utilization",
    "is less than desired cpu memory utilization",
    "is less than the engine's budget",
)
_NO_MEMORY = (
    "out of memory",  # torch.OutOfMemoryError, CUDA, the warm-up of the sampler, NCCL
    "no available memory for the cache blocks",
    "not enough gpu memory",
    "can't allocate memory",  # PyTorch's allocator on a CPU: DefaultCPUAllocator
    "cannot allocate memory",  # the operating system
    "unable to allocate",  # numpy
    "cublas_status_alloc_failed",
)


class OomReport(Enum):
    """What there is too little memory for."""

    CONTEXT = "one request as long as the context"
    CACHE = "a KV cache as large as was asked for"
    SHARE = "the share of the card that was asked for"
    MEMORY = "the engine"


def shortage_in(text: str) -> OomReport | None:
    """What a message or a log complains of; None where it is not memory."""
    low = " ".join(text.lower().split())
    for kind, words in (
        (OomReport.CONTEXT, _NO_CONTEXT),
        (OomReport.CACHE, _NO_CACHE),
        (OomReport.SHARE, _NO_SHARE),
        (OomReport.MEMORY, _NO_MEMORY),
    ):
        if any(word.lower() in low for word in words):
            return kind
    return None


def free_share_in(text: str) -> float | None:
    """Which share of the memory was free, 0..1, where vLLM says it."""
    memory = _memory_in(text)
    return memory[0] / memory[1] if memory else None


def free_bytes_in(text: str) -> int | None:
    """How much memory was free, where vLLM says it."""
    memory = _memory_in(text)
    return int(memory[0] * GIB) if memory else None


def _memory_in(text: str) -> tuple[float, float] | None:
    """GiB that were free, and in all."""
    found = re.search(r"\(([\d.]+)/([\d.]+) GiB\) on (?:startup|kv cache)", " ".join(text.split()))
    return (float(found[1]), float(found[2])) if found and float(found[2]) else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error``, or what led to it, is a want of memory."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        names = {kind.__name__ for kind in type(current).__mro__}
        if names & {"MemoryError", "OutOfMemoryError"} or shortage_in(str(current)):
            return True
        current = current.__cause__ or current.__context__
    return False


def as_failure(error: Exception, what: str = "the engine failed") -> RackmillError:
    """What an engine raised, as the failure of the engine that it is. ``what``: in words."""
    if isinstance(error, RackmillError):
        return error
    kind = EngineOutOfMemory if is_out_of_memory(error) else EngineFailed
    return kind(f"{what}: {type(error).__name__}: {error}")
