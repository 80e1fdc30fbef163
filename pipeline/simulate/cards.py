"""A trace on several simulated cards, or on cards that die: the assembled rack. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.budget.step_time import StepWork, attended
from pipeline.errors import JobFailed
from pipeline.rows.trace import TraceRow
from pipeline.rows.work_order import unit_rows
from pipeline.simulate.card import CardSetup, CardSim, NeverFits
from pipeline.simulate.outcome import SimulationOutcome
from pipeline.simulate.rack import Failures, SimulatedRack


def simulate_rack(
    setups: Sequence[CardSetup],
    policy: str,
    rows: Sequence[TraceRow],
    *,
    max_tokens: int,
    failures_per_hour: float = 0.0,
) -> SimulationOutcome:
    """``rows`` on cards with these ``setups``, handed out by the dispatcher that real runs use.

    A row that does not fit every card is an error, since any card may get it.
    ``failures_per_hour``: deaths of one card. Raises JobFailed if they die too often for progress.
    """
    cards = _named(setups, policy, max_tokens)
    errors = [error for row in rows if (error := _refused(cards, row)) is not None]
    bad = {error.row.id for error in errors}
    good = [row for row in rows if row.id not in bad]
    if not good:
        return SimulationOutcome.of(cards, errors)
    work = [replace(row, id=place) for place, row in enumerate(good)]
    rates = [forecast_rate(setup, work, max_tokens) for setup in setups]
    failures = Failures(per_hour=failures_per_hour)
    unit = unit_rows(len(work), len(setups))
    rack = SimulatedRack(cards, rates, work, rows_per_unit=unit, failures=failures)
    try:
        facts = rack.run()
    except RuntimeError as e:
        raise JobFailed(f"simulated rack: {e}", "a lower --failures") from None
    return SimulationOutcome.of(
        cards,
        errors,
        output_tokens=sum(row.output_tokens for row in good),
        deaths=facts.deaths,
        rows_lost=facts.rows_lost,
    )


def _named(setups: Sequence[CardSetup], policy: str, max_tokens: int) -> list[CardSim]:
    """Slots of one kind are numbered: "rtx3090-2"."""
    seen: dict[str, int] = {}
    cards = []
    for setup in setups:
        kind = setup.name
        seen[kind] = seen.get(kind, 0) + 1
        name = f"{kind}-{seen[kind]}"
        cards.append(CardSim(setup, policy, max_tokens=max_tokens, name=name))
    return cards


def _refused(cards: Sequence[CardSim], row: TraceRow) -> NeverFits | None:
    kinds = {id(card.setup): card for card in cards}.values()
    found = (card.never_fits(row) for card in kinds)
    return next((error for error in found if error is not None), None)


def forecast_rate(setup: CardSetup, rows: Sequence[TraceRow], max_tokens: int) -> float:
    """Rows per second as forecast before anything ran: from a card's time for the average row's
    share of full prefill steps and full decode steps. It assumes that completions reach half their
    limit, and that shared beginnings of prompts are computed already."""
    layout, step = setup.layout, setup.step_time
    window = layout.geometry.sliding_window
    prompt = max(1, round(sum(row.prompt_tokens for row in rows) / len(rows)))
    shared = min(prompt - 1, round(sum(row.prefix_tokens for row in rows) / len(rows)))
    new, answer = prompt - shared, max(1.0, max_tokens / 2)
    context = max(1, round(prompt + answer))
    batch = max(1, min(setup.max_num_seqs, setup.pool_blocks // max(layout.blocks(context), 1)))
    prompts = max(1, setup.max_num_batched_tokens // new)  # per step; a long one takes several
    prefill = step.seconds(
        StepWork(
            prefill_tokens=prompts * new,
            prefill_context=prompts * attended(shared, new),
            prefill_window=prompts * attended(shared, new, window),
            prefills=prompts,
            steps=max(1, -(-new // setup.max_num_batched_tokens)),
        )
    )
    decode = step.seconds(StepWork(batch, batch * context, batch * min(context, window)))
    return 1 / (prefill / prompts + decode / batch * (answer - 1))
