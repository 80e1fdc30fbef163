"""What a row costs is what the simulator says of a trace of such rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.budget.cards.lookup import find_card
from pipeline.budget.model_spec import ModelSpec
from pipeline.budget.predict import Workload
from pipeline.model.catalogue import MODELS
from pipeline.rows.trace import TraceRow
from pipeline.simulate.card import CardSetup, CardSim, run_card
from pipeline.simulate.card_setup import card_setup
from pipeline.simulate.row_cost import row_cost

TEXT = Workload("text", 600, 200.0, 0.0, 80.0)
LABELS = Workload("choices", 600, 280.0, 256.0, 1.0)


def setup(model: str = "gemma-3-4b", card: str = "rtx4060-laptop") -> CardSetup:
    subject = ModelSpec.of(MODELS[model], "int4")
    rows = [TraceRow(0, 200, 80)]
    return card_setup(subject.geometry, subject.weights, find_card(card), rows, 160, {})


def seconds(workload: Workload, rows: int, **changes: float) -> float:
    return rows * row_cost(setup(), replace(workload, **changes), rows, 160).seconds


def test_alike_rows_cost_what_their_trace_does() -> None:
    card = CardSim(setup(), "packed", max_tokens=160)
    run_card(card, [TraceRow(i, 200, 80) for i in range(600)])

    assert seconds(TEXT, 600) == pytest.approx(card.now, rel=0.02)


def test_many_rows_cost_as_much_as_if_all_were_simulated() -> None:
    whole = row_cost(setup(), TEXT, 4000, 160, most=4000).seconds

    assert row_cost(setup(), TEXT, 4000, 160).seconds == pytest.approx(whole, rel=0.05)


def test_a_shared_prefix_is_computed_once() -> None:
    assert seconds(LABELS, 600) < 0.3 * seconds(LABELS, 600, shared_tokens=0)


def test_rows_that_equal_ones_answer_cost_nothing() -> None:
    assert seconds(LABELS, 600, repeated=0.5) == pytest.approx(seconds(LABELS, 300), rel=0.02)


def test_each_request_of_a_row_costs() -> None:
    assert seconds(LABELS, 600, requests=2.0) > 1.1 * seconds(LABELS, 600)


def test_scores_go_through_the_output_head_token_by_token() -> None:
    plain = Workload("text", 600, 280.0, 0.0, 1.0)

    assert seconds(replace(plain, kind="score"), 600) > 1.05 * seconds(plain, 600)


def test_prompts_and_answers_share_the_time() -> None:
    short = replace(TEXT, prompt_tokens=20.0)
    labels, text = (row_cost(setup(), one, 300, 160) for one in (LABELS, short))

    assert labels.prompt_seconds > labels.answer_seconds
    assert text.answer_seconds > text.prompt_seconds


def test_answers_beyond_the_jobs_limit_cost_what_they_are() -> None:
    """Rows may bring limits of their own."""
    cut, whole = (row_cost(setup(), TEXT, 300, limit).seconds for limit in (40, 160))

    assert cut == pytest.approx(whole, rel=0.05)
