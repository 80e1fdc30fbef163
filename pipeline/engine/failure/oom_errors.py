"""Whether an engine failed for lack of memory: how vLLM 0.32 and PyTorch 2.13 word it."""

from __future__ import annotations

import re

from pipeline.budget.cards.lookup import GIB
from pipeline.errors import (
    EngineFailed,
    EngineOutOfMemory,
    MemoryNeed,
    RackmillError,
    Shortage,
)

# in lower case
_SIGNS = {
    MemoryNeed.CONTEXT: ("is needed, which is larger than the available kv cache memory",),
    MemoryNeed.CACHE: ("is less than requested memory for kv",),
    MemoryNeed.SHARE: (
        "is less than desired gpu memory utilization",
        "is less than desired cpu memory utilization",
        "is less than the engine's budget",
    ),
    MemoryNeed.ENGINE: (
        "out of memory",  # torch.OutOfMemoryError, CUDA, the warm-up of the sampler, NCCL
        "no available memory for the cache blocks",
        "not enough gpu memory",
        "can't allocate memory",  # PyTorch's allocator on a CPU: DefaultCPUAllocator
        "cannot allocate memory",  # the operating system
        "unable to allocate",  # numpy
        "cublas_status_alloc_failed",
    ),
}


def shortage_in(text: str) -> Shortage | None:
    """What a message or a log says was short; None where it is not memory."""
    words = " ".join(text.split())
    low = words.lower()
    need = next((need for need, signs in _SIGNS.items() if any(s in low for s in signs)), None)
    if need is None:
        return None
    found = re.search(r"\(([\d.]+)/([\d.]+) GiB\) on (?:startup|kv cache)", words)
    if found is None or not float(found[2]):
        return Shortage(need)
    return Shortage(need, int(float(found[1]) * GIB), int(float(found[2]) * GIB))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error``, or what led to it, is a lack of memory."""
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
    """What an engine raised, as one of our errors. ``what``: in words."""
    if isinstance(error, RackmillError):
        return error
    message = f"{what}: {type(error).__name__}: {error}"
    return out_of_memory(message) if is_out_of_memory(error) else EngineFailed(message)


def out_of_memory(message: str) -> EngineOutOfMemory:
    """The failure of an engine that ran out of memory; what was short, as far as it said so."""
    return EngineOutOfMemory(message, shortage=shortage_in(message) or Shortage())
