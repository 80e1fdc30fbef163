"""The packer with several answers of each row: their prompt is counted once."""

from __future__ import annotations

from dataclasses import replace

from pipeline.rows.workload import RequestShape, requests
from pipeline.simulate.card import CardSim
from tests.simulate.test_simulate import MAX_TOKENS, SETUP

N = 8


def _run(answers: int, policy: str = "packed") -> tuple[int, int]:
    """Requests that ran at once at the most, and how often one was preempted."""
    setup = replace(SETUP, max_num_seqs=64, pool_blocks=2400)
    card = CardSim(setup, policy, max_tokens=MAX_TOKENS)
    card.ending = True
    card.give(requests(RequestShape(answers=answers), [(800, 60)] * (30 * N)))
    most = 0
    while card.busy:
        card.step()
        most = max(most, len(card.engine.running))
    return most, card.engine.preemptions


def test_answers_of_one_row_find_room_where_those_of_others_do_not() -> None:
    assert _run(N)[0] >= 4 * _run(1)[0]


def test_they_do_not_crowd_each_other_out() -> None:
    assert _run(N)[1] < 0.5 * _run(N, "engine")[1]
