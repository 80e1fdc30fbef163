"""A trace on several simulated cards."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.budget.cards.lookup import find_card
from pipeline.budget.step_time import ScaledTime
from pipeline.errors import JobFailed
from pipeline.rows.trace import TraceRow
from pipeline.simulate.cards import simulate_rack
from tests.simulate.test_simulate import MAX_TOKENS, NAMES, SETUP, trace

FAST = replace(SETUP, card=find_card("rtx4090"), pool_blocks=1400, max_num_seqs=24)
KNOWN = replace(SETUP, weights_bytes=17_200_000_000)
FASTER = replace(FAST, weights_bytes=17_200_000_000)


@pytest.mark.parametrize("policy", NAMES)
def test_every_row_is_done_once_by_some_card(policy: str) -> None:
    rows = trace(200)
    done = simulate_rack([KNOWN, KNOWN, FASTER], policy, rows, max_tokens=MAX_TOKENS)
    assert sum(card.totals.rows for card, _ in done.cards) == 200
    output = sum(row.output_tokens for row in rows)
    assert done.whole.output_tokens_per_second == output / done.whole.makespan_seconds


def test_cards_of_a_kind_are_told_apart() -> None:
    done = simulate_rack([KNOWN, FASTER, KNOWN], "engine", trace(30), max_tokens=MAX_TOKENS)
    assert [card.name for card, _ in done.cards] == ["rtx3090-1", "rtx4090-1", "rtx3090-2"]


def test_what_a_card_that_dies_had_done_counts_once() -> None:
    rows = trace(200)
    failing = simulate_rack(
        [KNOWN, FASTER], "packed", rows, max_tokens=MAX_TOKENS, failures_per_hour=20.0
    )
    calm = simulate_rack([KNOWN, FASTER], "packed", rows, max_tokens=MAX_TOKENS)
    assert failing.deaths
    assert failing.whole.makespan_seconds > calm.whole.makespan_seconds
    output = sum(row.output_tokens for row in rows)
    whole = failing.whole
    assert whole.output_tokens_per_second == pytest.approx(output / whole.makespan_seconds)
    assert {"deaths", "rows_lost"} <= failing.as_json().keys()


def test_cards_that_die_all_the_time_end_the_simulation() -> None:
    with pytest.raises(JobFailed, match="dies before"):
        simulate_rack([KNOWN], "engine", trace(5), max_tokens=MAX_TOKENS, failures_per_hour=1e9)


def test_a_row_that_does_not_fit_every_card_is_an_error() -> None:
    small = replace(KNOWN, pool_blocks=100)
    rows = [*trace(20), TraceRow(20, 400, 100)]
    done = simulate_rack([small, FASTER], "packed", rows, max_tokens=MAX_TOKENS)
    refused = [e.row.id for e in done.errors]
    assert 20 in refused
    assert sum(card.totals.rows for card, _ in done.cards) == 21 - len(refused)


def test_nothing_that_fits_is_no_hang() -> None:
    done = simulate_rack([KNOWN, KNOWN], "packed", [TraceRow(0, 9000, 9000)], max_tokens=9000)
    assert done.whole.makespan_seconds == 0
    assert len(done.errors) == 1


def test_two_cards_take_half_as_long_where_nothing_but_prompts_is_computed() -> None:
    rows = [TraceRow(number, 150, 1) for number in range(600)]

    def seconds(cards: int) -> float:
        done = simulate_rack([KNOWN] * cards, "packed", rows, max_tokens=1)
        return done.whole.makespan_seconds

    assert seconds(2) < 0.6 * seconds(1)


def test_a_fast_card_does_not_wait_for_slow_ones() -> None:
    step = KNOWN.step_time
    slow = replace(KNOWN, step_time=ScaledTime(step, 8.0))
    rows = [TraceRow(number, 150, 1) for number in range(600)]
    alone = simulate_rack([KNOWN], "packed", rows, max_tokens=1)
    done = simulate_rack([KNOWN, slow, slow], "packed", rows, max_tokens=1)

    together = alone.whole.makespan_seconds / (1 + 2 / 8)
    assert done.whole.makespan_seconds < 1.1 * together
