"""An engine outside of a run (``model verify``, ``calibrate``): on which card, in which
environment, with which arguments. The same as a job's, but that it takes a card as it is now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.budget.cards.lookup import GIB, Card
from pipeline.budget.engine_arguments import PromptShape, choose_settings, setup_of
from pipeline.budget.memory_split import memory_split
from pipeline.budget.weights import weight_bytes
from pipeline.engine.gpu.nvml import Gpu, free_gpu_memory, held_by, holders
from pipeline.engine.gpu.usable import offer
from pipeline.engine.gpu.visible import VARIABLE
from pipeline.engine.machine.host import cpu_environment, this_processor
from pipeline.engine.vllm.engine import environment
from pipeline.errors import EngineFailed
from pipeline.humanize import size
from pipeline.job.engine import Core
from pipeline.model.folder import ModelFolder

_CONTEXT_BYTES = GIB // 2  # of CUDA's own, before vLLM looks how much is free
_SHARE = "gpu_memory_utilization"


@dataclass(frozen=True)
class StandaloneEngine:
    """``gpu``: None on the processor."""

    card: Card
    gpu: Gpu | None = None

    def environment(self, *, eager: bool, core: Core = "auto") -> dict[str, str]:
        """For the engine's process, from its start."""
        variables = environment(gpu=self.gpu is not None, eager=eager, core=core)
        if self.gpu is None:
            return variables | cpu_environment(0, 1)
        return variables | {VARIABLE: str(self.gpu.index)}

    def arguments(
        self, model: ModelFolder, shape: PromptShape, max_tokens: int, given: Mapping[str, Any]
    ) -> dict[str, Any]:
        """For ``vllm.EngineArgs``: a job's, on what is free of the card now. Raises EngineFailed
        where that is too little for the model."""
        weights = weight_bytes(model.geometry, model.precision, vision=model.vision_parameters)

        def chosen(**more: Any) -> dict[str, Any]:
            merged = more | dict(given)
            return choose_settings(
                model.geometry, weights, self.card, shape, max_tokens, merged
            ).arguments

        arguments = chosen()
        if self.gpu is None or _SHARE in given:
            return arguments
        free, total = free_gpu_memory(self.gpu.index)
        share = int(100 * (free - _CONTEXT_BYTES) / total) / 100 if total else 1.0
        if share >= arguments.get(_SHARE, 1.0):
            return arguments
        arguments = chosen(**{_SHARE: max(share, 0.01)})
        there = memory_split(model.geometry, weights, self.card, setup_of(arguments, self.card))
        if there.layout.requests(there.num_gpu_blocks, shape.longest + max_tokens) < 1:
            raise EngineFailed(
                f"{self.card.title}: {size(free)} of {size(total)} are free, which is too little "
                f"for {model.name}",
                held_by(holders(self.gpu.index)),
            )
        return arguments


def standalone() -> StandaloneEngine:
    """The first card of this machine that engines run on, or its processor. Raises UsageError
    where neither will do."""
    there = offer()
    there.check()
    for gpu in there.gpus:
        return StandaloneEngine(gpu.card, gpu)
    return StandaloneEngine(this_processor())
