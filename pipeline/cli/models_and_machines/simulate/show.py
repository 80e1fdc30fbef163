"""A simulation as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from pipeline.budget.cards.lookup import Card, in_slot, times
from pipeline.budget.model_spec import ModelSpec
from pipeline.budget.predict import Estimate
from pipeline.humanize import count, duration, plural, rate
from pipeline.simulate.card import CardSetup
from pipeline.simulate.outcome import SimulationFigures, SimulationOutcome
from pipeline.simulate.run_trace import Trace

_SHOWN = 5
_TABLE = 12  # most cards that are listed one by one


def simulation_lines(
    outcome: SimulationOutcome,
    model_spec: ModelSpec,
    policy: str,
    trace: Trace,
    learned: Mapping[Card, Estimate],
) -> Iterator[str]:
    """``learned``: the times of runs on such a card relative to the data sheet."""
    rows = trace.rows
    cards = Counter((card.setup.card.title, card.setup.cards) for card, _ in outcome.cards)
    names = " + ".join(
        times(n, title, number) if n > 1 else in_slot(title, number)
        for (title, number), n in cards.items()
    )
    yield f"{model_spec} on {names}, {policy} (simulated)"
    prompts = sum(row.prompt_tokens for row in rows)
    outputs = sum(row.output_tokens for row in rows)
    yield (
        f"  trace      {plural(len(rows), 'request')}, {prompts / len(rows):.0f} prompt and "
        f"{outputs / len(rows):.0f} output tokens in the mean; {prefixes_in_words(trace)}"
    )
    if trace.answered_once:
        yield (
            f"             of {plural(trace.rows_of_run, 'row')}, of which "
            f"{count(trace.answered_once)} were answered by equal ones"
        )
    for setup in {id(card.setup): card.setup for card, _ in outcome.cards}.values():
        yield f"  {setup.title:<10} {_engine(setup)}"
    for kind, seen in learned.items():
        if seen.runs:
            yield (
                f"  steps      on {kind.title} take {seen.slowdown:.2f} times what its data sheet "
                f"says, as {plural(seen.runs, 'run')} here did"
            )
    whole = outcome.whole
    if whole.makespan_seconds:
        yield from _figures(whole, len(outcome.cards))
    if outcome.deaths:
        yield (
            f"  failures   {plural(outcome.deaths, 'engine death')}, "
            f"{plural(outcome.rows_lost, 'row')} begun or done computed again"
        )
    if 1 < len(outcome.cards) <= _TABLE:
        for card, one in outcome.cards:
            yield (
                f"    {card.name:<16} {plural(card.totals.rows, 'row')}, until "
                f"{duration(card.totals.last_end)}, KV {one.mean_kv_use:.0%}, "
                f"{one.mean_batch:.1f} at once"
            )
    yield from _errors(outcome, len(rows))


def prefixes_in_words(trace: Trace) -> str:
    """How much of a prompt is shared with others, or that this is unknown."""
    if trace.says_prefixes:
        return f"{trace.shared_tokens:.0f} of a prompt shared"
    return "it does not say which prompts begin alike, so each is computed whole"


def _engine(setup: CardSetup) -> str:
    kv = {1: "fp8", 2: "bf16", 4: "fp32"}.get(setup.layout.dtype_bytes, "?")
    manager = "" if setup.layout.hybrid else ", hybrid manager off"
    return (
        f"{count(setup.pool_blocks)} KV blocks of {setup.layout.block_size} tokens in {kv}"
        f"{manager}, at most {plural(setup.max_num_seqs, 'request')} and "
        f"{count(setup.max_num_batched_tokens)} tokens a step"
    )


def _figures(whole: SimulationFigures, cards: int) -> Iterator[str]:
    yield (
        f"  takes      {duration(whole.makespan_seconds)}: "
        f"{rate(whole.output_tokens_per_second)} output tokens/s"
    )
    yield (
        f"  KV cache   {whole.mean_kv_use:.0%} held in the mean, "
        f"{whole.mean_batch:.1f} requests at once" + (" on a card" if cards > 1 else "")
    )
    if whole.preemptions:
        yield (
            f"  preempted  {plural(whole.preemptions, 'time')}; {whole.recomputed_share:.1%} of "
            f"the work was done again ({count(whole.recomputed_tokens)} tokens)"
        )
    else:
        yield "  preempted  never"
    if cards > 1:
        yield f"  tail       {whole.tail_idle_share:.1%} of the cards' time idle at the end"


def _errors(outcome: SimulationOutcome, rows: int) -> Iterator[str]:
    if not outcome.errors:
        return
    yield f"{plural(rows, 'row')}: {count(len(outcome.errors))} can never run"
    for error in outcome.errors[:_SHOWN]:
        yield f"  row {error.row.id + 1}: {error.message}"
    if len(outcome.errors) > _SHOWN:
        yield f"  and {count(len(outcome.errors) - _SHOWN)} more"
