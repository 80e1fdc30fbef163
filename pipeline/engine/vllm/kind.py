"""vLLM as a kind of engine. Importing this does not import vLLM yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.budget.engine_arguments import scoring_arguments, with_retention
from pipeline.engine.machine.card_memory import wait_for_own_cards
from pipeline.engine.protocol import Engine
from pipeline.engine.vllm.grammar import check_answer_shape as check_answer_shape
from pipeline.job.job import Job
from pipeline.model.folder import ModelFolder


def load(
    job: Job, arguments: Mapping[str, Any], model: ModelFolder, say: Callable[[str], None]
) -> Engine:
    """Raises EngineFailed."""
    from pipeline.engine.vllm.engine import VllmEngine  # a dozen seconds to import

    if job.score is not None:
        arguments = {**scoring_arguments(job.score, arguments), **arguments}
    if (share := arguments.get("gpu_memory_utilization")) is not None:
        wait_for_own_cards(float(share), say, int(arguments.get("tensor_parallel_size") or 1))
    arguments = with_retention(arguments, job.questions)
    schema = job.label.answer_schema if job.label else None
    return VllmEngine(model, arguments, schema, scoring=job.score is not None, say=say)
