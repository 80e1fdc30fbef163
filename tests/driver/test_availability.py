"""When cards are not the run's: its hours, and who plays."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pipeline.dispatch.desktop_use import Ours, YieldDecision
from pipeline.driver.workers.slots.availability import Availability, Node, SlotCards
from pipeline.driver.workers.slots.slot_states import AbsenceReason
from tests.support.samples import job

FREE, LOOKS = YieldDecision(away=False), YieldDecision(away=True)
PLAYED = YieldDecision(away=True, why="game uses 60% of it")


class Desktops:
    def __init__(self) -> None:
        self.calls: dict[tuple[Node, int], YieldDecision] = {}
        self.told: Mapping[Node, Mapping[int, Ours]] = {}

    def look(self, ours: Mapping[Node, Mapping[int, Ours]], hosts: Mapping[Node, str]) -> None:
        self.told = ours

    def call(self, node: Node, index: int) -> YieldDecision:
        return self.calls.get((node, index), FREE)


class Run:
    def __init__(self, **resources: Any) -> None:
        self.notes: list[str] = []
        self.now = datetime(2026, 6, 1, 12, tzinfo=UTC)
        self.desktops = Desktops()
        asked = job(resources=resources).resources
        desktops = self.desktops if asked.yield_to_desktop else None
        self.absences = Availability(asked, desktops, self.notes.append, now=lambda: self.now)

    def at(self, hour: int, minute: int = 0) -> None:
        self.now = self.now.replace(hour=hour, minute=minute)

    def why(self, *states: SlotCards) -> list[dict[AbsenceReason, str]]:
        """Of each state, why it has no card."""
        found = self.absences.look(states or (state(0),))
        return [{r: why for r, why in one.items() if why is not None} for one in found.values()]


def state(number: int, *cards: int, node: Node = None, ours: Ours = Ours.NOTHING) -> SlotCards:
    return SlotCards(number, f"worker-{number}", node, node or "here", cards, ours)


def test_without_hours_and_players_cards_are_the_runs() -> None:
    assert Run().why() == [{}]


def test_outside_of_its_hours_every_card_is_free_until_they_begin() -> None:
    run = Run(hours="23:00-07:00", timezone="UTC")

    assert run.why(state(0), state(1)) == 2 * [
        {AbsenceReason.HOURS: "until 23:00, as resources.hours (23:00-07:00) says"}
    ]


def test_that_hours_begin_and_end_is_said_once_each() -> None:
    run = Run(hours="13:00-14:00", timezone="UTC")
    for hour, minute in ((12, 0), (12, 59), (13, 0), (13, 30), (14, 0), (15, 0)):
        run.at(hour, minute)
        run.why()

    outside = "outside of its hours: the cards are free until 13:00, as resources.hours"
    assert [note.partition(" (13:00")[0] for note in run.notes] == [outside, "its hours", outside]
    assert run.notes[1] == "its hours (13:00-14:00) have begun"


def test_a_run_that_begins_within_its_hours_says_nothing() -> None:
    run = Run(hours="11:00-14:00", timezone="UTC")

    assert run.why() == [{}]
    assert run.notes == []


def test_a_card_that_is_played_on_is_left_and_who_plays_is_named_once() -> None:
    run = Run(yield_to_desktop=True)
    run.desktops.calls[None, 1] = PLAYED
    for _ in range(3):
        assert run.why(state(0, 0), state(1, 1)) == [
            {},
            {AbsenceReason.DESKTOP: "game uses 60% of it"},
        ]

    assert run.notes == [
        "worker-1: game uses 60% of it: the card is left to it until nobody has used it for 5 min"
    ]


def test_a_card_that_is_quiet_again_is_taken_again() -> None:
    run = Run(yield_to_desktop=True)
    run.desktops.calls[None, 0] = PLAYED
    run.why(state(0, 0))
    run.desktops.calls[None, 0] = FREE

    assert run.why(state(0, 0)) == [{}]
    assert run.notes[1:] == ["worker-0: nobody uses its card any more: it is taken again"]


def test_the_first_look_at_a_card_keeps_it_from_use_without_a_word() -> None:
    run = Run(yield_to_desktop=True)
    run.desktops.calls[None, 0] = LOOKS

    assert run.why(state(0, 0)) == [{AbsenceReason.DESKTOP: ""}]
    assert run.notes == []


def test_a_new_look_at_a_card_drives_no_engine_away() -> None:
    """Who looked before may have died."""
    run = Run(yield_to_desktop=True)
    run.desktops.calls[None, 0] = LOOKS

    assert run.why(state(0, 0, ours=Ours.STEADY)) == [{}]


def test_a_new_look_at_a_card_that_is_played_on_does_not_end_the_game() -> None:
    run = Run(yield_to_desktop=True)
    run.desktops.calls[None, 0] = PLAYED
    run.why(state(0, 0))
    run.desktops.calls[None, 0] = LOOKS

    assert run.why(state(0, 0)) == [{AbsenceReason.DESKTOP: "game uses 60% of it"}]


def test_an_engine_over_two_cards_leaves_both_when_somebody_plays_on_one() -> None:
    run = Run(yield_to_desktop=True)
    run.desktops.calls["a", 1] = PLAYED

    assert run.why(state(0, 0, 1, node="a"))[0].keys() == {AbsenceReason.DESKTOP}


def test_each_machine_has_its_own_players() -> None:
    run = Run(yield_to_desktop=True)
    run.desktops.calls["a", 0] = PLAYED
    found = run.why(state(0, 0, node="a"), state(1, 0, node="b"))

    assert [one.keys() for one in found] == [{AbsenceReason.DESKTOP}, set()]


def test_who_looks_at_the_cards_is_told_what_of_ours_is_on_them() -> None:
    run = Run(yield_to_desktop=True)
    run.why(state(0, 0, node="a", ours=Ours.STEADY), state(1, 1, node="a", ours=Ours.LOADING))

    assert run.desktops.told == {"a": {0: Ours.STEADY, 1: Ours.LOADING}}


def test_an_engine_without_cards_has_nothing_to_yield() -> None:
    run = Run(yield_to_desktop=True)

    assert run.why(state(0)) == [{}]
