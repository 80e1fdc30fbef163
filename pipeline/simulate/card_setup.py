"""A simulated card's engine, set up as `plan` would set up a real one. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.budget.cards.lookup import Card
from pipeline.budget.engine_arguments import PromptShape, choose_settings, setup_of
from pipeline.budget.kv_layout import CUDA_BATCHES_IN_FLIGHT
from pipeline.budget.memory_split import memory_split
from pipeline.budget.step_time import RooflineTime, StepTime
from pipeline.budget.weights import Weights
from pipeline.model.geometry import Geometry
from pipeline.rows.trace import TraceRow
from pipeline.simulate.card import CardSetup


def prompt_shape(rows: Sequence[TraceRow], context: int) -> PromptShape:
    """What a plan would find in the trace's prompts. ``context``: the model's, in tokens; longer
    rows become errors and have no effect."""
    rows = [row for row in rows if row.tokens <= context] or rows
    groups = {row.prefix_group for row in rows}
    shared = min(row.prefix_tokens for row in rows) if len(groups) == 1 else 0
    prompts = [row.prompt_tokens for row in rows]
    return PromptShape(sum(prompts) / len(prompts), max(prompts), shared)


def card_setup(
    geometry: Geometry,
    weights: Weights,
    card: Card,
    rows: Sequence[TraceRow],
    max_tokens: int,
    given: Mapping[str, Any],
    step_time: StepTime | None = None,
    overhead_correction: int | None = None,
    expected_tokens: float | None = None,
) -> CardSetup:
    """``given``: vLLM arguments that are fixed. ``step_time``: None for the card's roofline.
    ``max_tokens``: of every request. ``expected_tokens``: of an average answer, if a plan would
    know it. The pool may be too small for any request: call ``pipeline.budget.fit.fit`` first."""
    shape = prompt_shape(rows, geometry.context)
    choice = choose_settings(
        geometry, weights, card, shape, max_tokens, given, overhead_correction, expected_tokens
    )
    return card_setup_from(
        geometry, weights, card, choice.arguments, step_time, overhead_correction
    )


def card_setup_from(
    geometry: Geometry,
    weights: Weights,
    card: Card,
    arguments: Mapping[str, Any],
    step_time: StepTime | None = None,
    overhead_correction: int | None = None,
) -> CardSetup:
    """For an engine with the chosen ``arguments``; the others as in ``card_setup``."""
    setup = setup_of(arguments, card, overhead_correction)
    there = memory_split(geometry, weights, card, setup)
    blocks = int(arguments.get("num_gpu_blocks_override", there.num_gpu_blocks))
    context = int(arguments.get("max_model_len", -1))
    layout = there.layout
    if setup.unpacked:
        weights = weights.unpacked(geometry)
    if step_time is None:
        step_time = RooflineTime(
            geometry,
            weights.text_bytes,
            card,
            layout.dtype_bytes,
            setup.cards,
            setup.offloaded_bytes,
        )
    return CardSetup(
        card,
        layout,
        max(0, blocks - 1),
        setup.max_num_seqs,
        setup.chunk,
        context if context > 0 else geometry.context,
        step_time,
        dict(arguments),
        prefix_caching=bool(arguments.get("enable_prefix_caching", True)),
        dense_retention=arguments.get("prefix_cache_retention_interval", 0) is None,
        overrun=0 if card.is_cpu else CUDA_BATCHES_IN_FLIGHT - 1,
        steps_ahead=0 if card.is_cpu else CUDA_BATCHES_IN_FLIGHT,
        weights_bytes=weights.text_bytes,
        cards=setup.cards,
    )
