"""From a job's engine settings to a loaded engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.budget.kv import KvLayout
from pipeline.budget.settings import scoring_arguments
from pipeline.engine.machine.card_memory import wait_for_own_cards
from pipeline.engine.protocol import Engine
from pipeline.engine.simulated.engine import SimulatedEngine
from pipeline.job.engine import RehearsedFaults
from pipeline.job.job import Job
from pipeline.model.store.resolve import ModelFolder
from pipeline.model.tokenizer import Tokenizer

_SIMULATED_BLOCK_SIZE = 16
_SIMULATED_CHUNK = 2048
_SIMULATED_MAX_NUM_SEQS = 256


def load_engine(
    job: Job,
    arguments: Mapping[str, Any],
    model: ModelFolder,
    say: Callable[[str], None] = lambda line: None,
) -> Engine:
    """Load the engine that ``job.engine.kind`` names. Raises EngineFailed."""
    settings = job.engine
    if settings.kind == "simulated":
        arguments = settings.vllm_arguments() | dict(arguments)
        layout = KvLayout(
            model.geometry,
            arguments.get("block_size") or _SIMULATED_BLOCK_SIZE,
            arguments.get("max_num_batched_tokens") or _SIMULATED_CHUNK,
        )
        faulty = settings.simulated.faults != RehearsedFaults()
        return SimulatedEngine(
            settings.simulated,
            layout,
            max_model_len=arguments.get("max_model_len") or model.geometry.context,
            max_num_seqs=arguments.get("max_num_seqs") or _SIMULATED_MAX_NUM_SEQS,
            decode=Tokenizer(model.path).decode if faulty else None,
        )
    from pipeline.engine.vllm.engine import VllmEngine  # vLLM: a dozen seconds to import

    if job.score is not None:
        arguments = {**scoring_arguments(job.score, arguments), **arguments}
    if (share := arguments.get("gpu_memory_utilization")) is not None:
        wait_for_own_cards(float(share), say, int(arguments.get("tensor_parallel_size") or 1))
    schema = job.label.answer_schema if job.label else None
    return VllmEngine(model, arguments, schema, scoring=job.score is not None, say=say)
