"""``engine.kind: auto``: vLLM, or llama.cpp on cards that vLLM cannot drive."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.engine.gpu.usable import offer
from pipeline.engine.llama_cpp.binary import find_binary
from pipeline.errors import MachineUnfit, UsageError
from pipeline.job.engine import AUTO
from pipeline.job.job import Job


def with_known_engine(job: Job, say: Callable[[str], None] = lambda line: None) -> Job:
    """``job`` with a kind of engine in the place of ``auto``, and why is said.

    llama.cpp takes what it sees (Vulkan: cards of AMD and Intel, NVIDIA's below 8.0) where vLLM has
    no card and ``llama-server`` is installed; a processor is vLLM's, which is faster there.
    """
    if job.engine.kind != AUTO:
        return job
    kind, why = _kind(job)
    if why:
        say(f"engine.kind: auto is {kind} here: {why}")
    known = job.engine.model_copy(update={"kind": kind})
    return job.model_copy(update={"engine": known})


def _kind(job: Job) -> tuple[str, str]:
    try:
        there = offer()
    except UsageError:  # said where engines are chosen
        return "vllm", ""
    if there.gpus:
        return "vllm", ""
    try:
        cards = find_binary(job.engine.server).devices()
    except MachineUnfit as e:
        return "vllm", f"{'; '.join(there.left)}; and {e.message}" if there.left else ""
    if not cards:
        return "vllm", "; ".join(there.left)
    return "llama.cpp", f"vLLM cannot drive {', '.join(cards)}, and llama-server can"
