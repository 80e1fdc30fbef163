"""The simulated engine as a kind of engine."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.budget.kv_layout import KvLayout
from pipeline.engine.protocol import Engine
from pipeline.engine.simulated.engine import SimulatedEngine
from pipeline.engine.simulated.schema_sample import NoSample, SchemaSampler
from pipeline.engine.vllm import grammar
from pipeline.errors import UsageError
from pipeline.job.engine import RehearsedFaults
from pipeline.job.job import Job
from pipeline.model.folder import ModelFolder
from pipeline.model.tokenizer import Tokenizer

_BLOCK_SIZE = 16
_CHUNK = 2048
_MAX_NUM_SEQS = 256


def load(
    job: Job,
    arguments: Mapping[str, Any],
    model: ModelFolder,
    say: Callable[[str], None],  # noqa: ARG001 -- it loads at once
) -> Engine:
    settings = job.engine
    arguments = settings.vllm_arguments() | dict(arguments)
    layout = KvLayout(
        model.geometry,
        arguments.get("block_size") or _BLOCK_SIZE,
        arguments.get("max_num_batched_tokens") or _CHUNK,
    )
    faulty = settings.simulated.faults != RehearsedFaults()
    return SimulatedEngine(
        settings.simulated,
        layout,
        max_model_len=arguments.get("max_model_len") or model.geometry.context,
        max_num_seqs=arguments.get("max_num_seqs") or _MAX_NUM_SEQS,
        decode=Tokenizer(model.path).decode if faulty else None,
    )


def check_answer_shape(job: Job) -> None:
    """It has to find an answer by itself, and it rehearses vLLM, which must hold one."""
    if job.label is not None and not job.label.choices and job.label.answer_schema:
        try:
            SchemaSampler(job.label.answer_schema, ["a", "the"]).sample(random.Random(0))
        except NoSample as e:
            raise UsageError(
                f"label.json_schema.{e}: the simulated engine finds no answer that meets it",
                "a real engine may; rehearse without this key",
            ) from None
    grammar.check_answer_shape(job)
