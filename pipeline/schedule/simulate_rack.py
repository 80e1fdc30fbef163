"""A trace on several simulated cards, or on cards that die: the rack put together. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.budget.roofline import decode_tokens_per_second, exchange_seconds
from pipeline.errors import JobFailed
from pipeline.schedule.outcome import Outcome
from pipeline.schedule.rack import Failures, Rack
from pipeline.schedule.simulate import CardSetup, CardSim, NeverFits
from pipeline.schedule.trace import TraceRow

_MOST_PER_UNIT = 128
_UNIT_SECONDS = 20.0  # of the slowest card: what a death costs, and the least to hand over


def simulate_rack(
    setups: Sequence[CardSetup],
    policy: str,
    rows: Sequence[TraceRow],
    *,
    max_tokens: int,
    failures_per_hour: float = 0.0,
) -> Outcome:
    """``rows`` on cards of these ``setups``, handed out by the dispatcher that real runs use.

    A row that does not fit every card is an error: nobody can say on which it would come up.
    ``failures_per_hour``: deaths of one card. Raises JobFailed if they die too often to get on.
    """
    cards = _named(setups, policy, max_tokens)
    errors = [error for row in rows if (error := _refused(cards, row)) is not None]
    bad = {error.row.id for error in errors}
    good = [row for row in rows if row.id not in bad]
    if not good:
        return Outcome.of(cards, errors)
    work = [replace(row, id=place) for place, row in enumerate(good)]
    rates = [_rate(setup, work, max_tokens) for setup in setups]
    per_unit = min(_MOST_PER_UNIT, max(1, round(min(rates) * _UNIT_SECONDS)))
    failures = Failures(per_hour=failures_per_hour)
    rack = Rack(cards, rates, work, rows_per_unit=per_unit, failures=failures)
    try:
        facts = rack.run()
    except RuntimeError as e:
        raise JobFailed(f"simulated rack: {e}", "a lower --failures") from None
    return Outcome.of(
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


def _rate(setup: CardSetup, rows: Sequence[TraceRow], max_tokens: int) -> float:
    """Rows per second as a forecast has them before anything ran: what counts is how cards
    compare. Completions are taken for half of what they may be."""
    layout, card = setup.layout, setup.card
    prompt = sum(row.prompt_tokens for row in rows) / len(rows)
    context = max(1, round(prompt + max_tokens / 2))
    batch = max(1, min(setup.max_num_seqs, setup.pool_blocks // max(layout.blocks(context), 1)))
    # one card's part of the work, then waiting for the others
    tokens = decode_tokens_per_second(
        layout.geometry,
        setup.weights_bytes // setup.cards,
        card,
        batch=batch,
        context=context,
        dtype_bytes=layout.dtype_bytes,
    )
    seconds = batch / tokens + exchange_seconds(layout.geometry, batch, batch, setup.cards)
    return batch / seconds / max(max_tokens / 2, 1)
