"""From a job's engine settings to a loaded engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.budget.kv import KvLayout
from pipeline.budget.settings import scoring_arguments
from pipeline.engine.protocol import Engine
from pipeline.engine.simulated import SimulatedEngine
from pipeline.model.store import ModelFolder
from pipeline.spec.job import Job

_SIMULATED_BLOCK_SIZE = 16
_SIMULATED_CHUNK = 2048
_SIMULATED_MAX_NUM_SEQS = 256


def load_engine(job: Job, arguments: Mapping[str, Any], model: ModelFolder) -> Engine:
    """Load the engine that ``job.engine.kind`` names. Raises EngineFailed."""
    settings = job.engine
    if settings.kind == "simulated":
        layout = KvLayout(
            model.geometry,
            settings.block_size or _SIMULATED_BLOCK_SIZE,
            settings.max_num_batched_tokens or _SIMULATED_CHUNK,
        )
        return SimulatedEngine(
            settings.simulated,
            layout,
            max_model_len=settings.max_model_len or model.geometry.context,
            max_num_seqs=settings.max_num_seqs or _SIMULATED_MAX_NUM_SEQS,
        )
    from pipeline.engine.vllm_engine import VllmEngine  # vLLM: a dozen seconds to import

    if job.score is not None:
        arguments = {**scoring_arguments(job.score, arguments), **arguments}
    schema = job.label.json_schema if job.label else None
    return VllmEngine(model, arguments, schema, scoring=job.score is not None)
