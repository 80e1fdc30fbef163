"""From a job's engine settings to a loaded engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.budget.kv import KvLayout
from pipeline.engine.protocol import Engine
from pipeline.engine.simulated import SimulatedEngine
from pipeline.model.store import ModelFolder
from pipeline.spec.job import EngineSettings, Job, Score

_SIMULATED_BLOCK_SIZE = 16
_SIMULATED_CHUNK = 2048
_SIMULATED_MAX_NUM_SEQS = 256
_SCORED_CHUNK = 512  # tokens


def _scoring(score: Score, settings: EngineSettings) -> dict[str, Any]:
    """Arguments of an engine that scores.

    Each position of a prompt is then turned into probabilities over the whole vocabulary, in
    float32 on top of the model's own type: 1.5 MiB a token for Gemma 3. So a step takes fewer
    tokens than it otherwise would (``max_num_seqs`` may not be above them).
    """
    arguments: dict[str, Any] = {"max_logprobs": score.top_k or 1}
    if settings.max_num_batched_tokens is None:
        arguments["max_num_batched_tokens"] = max(_SCORED_CHUNK, settings.max_num_seqs or 0)
    return arguments


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
        arguments = {**arguments, **_scoring(job.score, settings)}
    schema = job.label.json_schema if job.label else None
    return VllmEngine(model, arguments, schema, scoring=job.score is not None)
