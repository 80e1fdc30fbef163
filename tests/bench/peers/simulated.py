"""Simulated cards for the benchmarks: an engine's configuration for a trace, and a run of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from pipeline.budget.cards.lookup import CARDS
from pipeline.budget.engine_arguments import PromptShape, choose_settings
from pipeline.budget.weights import weight_bytes
from pipeline.model.catalogue import MODELS
from pipeline.rows.trace import TraceRow
from pipeline.simulate.card import CardSetup, CardSim, run_card
from pipeline.simulate.card_setup import card_setup

MAX_TOKENS = 2048  # what every request states


@dataclass(frozen=True)
class Made:
    """``held``: requests of the trace's mean length that the cache holds at once."""

    setup: CardSetup
    held: int


def made_for(
    model: str, card: str, rows: Sequence[TraceRow], given: Mapping[str, Any] | None = None
) -> Made:
    """``model``: "27b" and the like, int4 as Google publishes it. ``given``: vLLM arguments;
    rackmill chooses the others as after a first run of the job, when the answers' mean length is
    known."""
    entry, device = MODELS[f"gemma-3-{model}"], CARDS[card]
    weights = weight_bytes(entry.geometry, "int4", vision=entry.vision_parameters)
    prompts = [row.prompt_tokens for row in rows]
    alike = len({row.prefix_group for row in rows}) == 1
    shared = min(row.prefix_tokens for row in rows) if alike else 0
    answer = mean(row.output_tokens for row in rows)
    choice = choose_settings(
        entry.geometry,
        weights,
        device,
        PromptShape(mean(prompts), max(prompts), shared),
        max(row.output_tokens for row in rows),
        given or {},
        expected_tokens=answer,
    )
    setup = card_setup(entry.geometry, weights, device, rows, MAX_TOKENS, choice.arguments)
    tokens = round(mean(prompts) + answer)
    held = setup.layout.requests(setup.pool_blocks + 1, tokens, shared)
    return Made(setup, held)


def simulate(setup: CardSetup, policy: str, rows: Sequence[TraceRow]) -> dict[str, Any]:
    """All ``rows``, there from the start, on one card."""
    card = CardSim(setup, policy, max_tokens=MAX_TOKENS)
    ended = run_card(card, rows)
    assert len(ended) + len(card.errors) == len(rows)
    assert not card.errors, card.errors[0].message
    card.engine.check()
    totals = card.totals
    return {
        "makespan_seconds": card.now,
        "requests_per_second": len(rows) / card.now,
        "output_tokens_per_second": totals.output_tokens / card.now,
        "preemptions": card.preemptions,
        "recomputed_tokens": card.recomputed_tokens,
        "recomputed_share": card.recomputed_tokens / max(card.computed_tokens, 1),
        "mean_kv_use": totals.kv / totals.busy,
        "mean_batch": totals.batch / totals.busy,
    }
