"""A request in hand waits or is in the engine, and is counted once."""

from __future__ import annotations

from typing import Any

from pipeline.job.sampling import Sampling
from pipeline.rows.request import Request
from pipeline.worker.engine_loop.in_hand import InHand, RowInHand

NOTHING: Any = None


def request(number: int) -> Request:
    return Request(number, [2, 3], Sampling())


def test_what_waits_and_what_the_engine_has_are_all_there_is() -> None:
    row, in_hand = RowInHand(NOTHING, NOTHING), InHand()
    for number in range(4):
        in_hand.add(request(number), row)
        assert (in_hand.waiting, in_hand.inside, len(in_hand)) == (number + 1, 0, number + 1)
    in_hand.begin(1)
    in_hand.begin(2)
    assert (in_hand.waiting, in_hand.inside, len(in_hand)) == (2, 2, 4)
    in_hand.drop(1)
    in_hand.drop(3)
    in_hand.drop(3)  # it is gone already

    assert (in_hand.waiting, in_hand.inside, len(in_hand)) == (1, 1, 2)


def test_a_rows_requests_are_dropped_wherever_they_are_and_no_others() -> None:
    row, other, in_hand = RowInHand(NOTHING, NOTHING), RowInHand(NOTHING, NOTHING), InHand()
    for number in range(6):
        in_hand.add(request(number), other if number == 3 else row)
    in_hand.begin(4)
    in_hand.begin(2)
    in_hand.begin(3)

    assert in_hand.drop_all_of(row) == ([2, 4], [0, 1, 5])
    assert in_hand.rows == [other]
    assert in_hand.begun_rows == {other}
    assert in_hand.waiting == 0
