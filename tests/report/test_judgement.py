"""Verdicts in both orders become wins, ties, a bias of place and strengths."""

from __future__ import annotations

import pytest

from pipeline.report.comparison.judgement import Meeting, Pairing, Verdict, judge_pairings


def in_both_orders(row: int, one: int, other: int, first: str, second: str) -> Pairing:
    both = Verdict(first, one_first=True), Verdict(second, one_first=False)
    return Pairing(row, one, other, both)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (("A", "B"), Meeting(0, 1, wins=1, losses=0, ties=0, unlike=0)),
        (("B", "A"), Meeting(0, 1, wins=0, losses=1, ties=0, unlike=0)),
        (("A", "A"), Meeting(0, 1, wins=0, losses=0, ties=1, unlike=1)),
        (("tie", "B"), Meeting(0, 1, wins=1, losses=0, ties=0, unlike=0)),
        (("tie", "tie"), Meeting(0, 1, wins=0, losses=0, ties=1, unlike=0)),
        (None, Meeting(0, 1, wins=0, losses=0, ties=1, unlike=0)),
    ],
)
def test_a_pair_is_won_by_the_answer_that_both_orders_together_prefer(verdicts, expected) -> None:
    pairing = in_both_orders(0, 0, 1, *verdicts) if verdicts else Pairing(0, 0, 1)
    assert judge_pairings([pairing], 2).meetings == (expected,)


def test_a_judge_that_always_takes_the_first_prefers_no_output_and_is_biased() -> None:
    found = judge_pairings([in_both_orders(row, 0, 1, "A", "A") for row in range(50)], 2)

    assert found.shown_first.value == 1.0
    assert [round(one.elo, 6) for one in found.strengths] == [0.0, 0.0]


def test_the_better_of_three_is_the_strongest_and_its_interval_leaves_the_others_out() -> None:
    pairings = [
        in_both_orders(row, one, other, "A", "B")
        for row in range(40)
        for one, other in ((0, 1), (0, 2), (1, 2))
        if (row * 7 + one) % 10  # not without exception
    ]

    best, middle, worst = judge_pairings(pairings, 3).strengths
    assert best.elo > middle.elo > worst.elo
    assert best.low > middle.high


def test_of_several_people_the_most_decide_and_who_contradict_each_other_tie() -> None:
    left_wins, right_wins = Verdict("A", one_first=False), Verdict("B", one_first=False)
    said = [(left_wins, left_wins, right_wins), (left_wins, right_wins), (right_wins,)]
    found = judge_pairings([Pairing(row, 0, 1, them) for row, them in enumerate(said)], 2)

    assert found.meetings == (Meeting(0, 1, wins=1, losses=1, ties=1, unlike=1),)
    assert (found.shown_first.part, found.shown_first.whole) == (3, 6)
