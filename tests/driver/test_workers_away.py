"""Cards that somebody plays on, are out of their hours, or are lost, from the driver's view."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.dispatch.desktop_use import YieldDecision
from pipeline.engine.machine.card_reading import CardReading
from pipeline.engine.machine.vitals import Vitals
from pipeline.errors import CardLost, EngineFailed
from tests.driver.driver_side import LATER, Rack

_HOUR = datetime.now(UTC).hour
_NEVER_NOW = f"{(_HOUR + 12) % 24:02}:00-{(_HOUR + 13) % 24:02}:00"


class Players:
    """Who plays on the cards of the rack's machine."""

    def __init__(self) -> None:
        self.calls: dict[int, YieldDecision] = {}

    def look(self, ours: Any, hosts: Any) -> None: ...

    def call(self, node: Any, index: int) -> YieldDecision:
        return self.calls.get(index, YieldDecision(away=False))


@pytest.fixture
def players() -> Players:
    return Players()


@pytest.fixture
def desk(new_rack: Any, players: Players) -> Rack:
    """Two engines at work, for a job that yields to the desktop."""
    made: Rack = new_rack(players=players)
    made.start_workers()
    made.loaded = {"worker-0", "worker-1"}
    return made


class TestCardThatIsPlayedOn:
    def look(self, rack: Rack) -> None:
        rack.workers.update_availability()
        rack.look()

    def play(self, rack: Rack, players: Players, *cards: int) -> None:
        players.calls = {
            card: YieldDecision(away=True, why="game uses 60% of it") for card in cards
        }
        self.look(rack)

    def test_its_engine_has_five_seconds_at_most(self, desk: Rack, players: Players) -> None:
        self.play(desk, players, 0)

        assert desk.coordinator.retired == ["worker-0"]
        assert 4 < desk.coordinator.seconds[0] <= 5

    def test_its_engine_is_not_kept_for_others(self, desk: Rack, players: Players) -> None:
        """Nobody would see to it that it leaves the card to those who play."""
        assert [one.slot for one in desk.hired] == [None, None]
        self.play(desk, players, 0)
        desk.hired[0].over = True
        desk.look()

        assert desk.hired[0].killed  # so that the card's memory is free
        assert desk.coordinator.lost == [("worker-0", True)]

    def test_it_gets_an_engine_again_when_nobody_plays(self, desk: Rack, players: Players) -> None:
        self.play(desk, players, 0)
        desk.hired[0].over = True
        self.look(desk)
        assert desk.start_workers(LATER) == []
        self.play(desk, players)

        assert desk.start_workers(LATER) == ["worker-0.1"]
        assert desk.workers.states[0].failures == 0

    def test_while_all_are_played_on_the_run_waits_and_says_for_whom(
        self, desk: Rack, players: Players
    ) -> None:
        self.play(desk, players, 0, 1)
        assert desk.workers.waits_for == ""  # they still finish what they are at
        for one in desk.hired:
            one.over = True
        self.look(desk)

        assert not desk.workers.active
        assert desk.workers.may_work
        assert desk.workers.waits_for == "game uses 60% of it"

    def test_another_card_is_taken_in_its_place_but_not_one_more_in_the_end(
        self, new_rack: Any, players: Players
    ) -> None:
        rack = new_rack(players=players, wanted=1)
        rack.start_workers()
        rack.loaded = {"worker-0"}
        self.play(rack, players, 0)
        assert rack.workers.wanted == 1
        rack.hired[0].over = True
        self.look(rack)
        rack.add_group(1)
        assert rack.start_workers(LATER) == ["worker-1"]
        self.play(rack, players)

        assert rack.start_workers(LATER) == []

    def test_outside_of_its_hours_no_other_card_would_help(self, new_rack: Any) -> None:
        rack = new_rack(wanted=1, hours=_NEVER_NOW)
        rack.workers.update_availability()

        assert rack.workers.wanted == 0
        assert rack.start_workers() == []


class TestCardThatFellOffTheBus:
    LOST = CardReading(1, "NVIDIA GeForce RTX 4090", lost=True)

    def test_it_is_set_aside_by_name_and_the_job_goes_on(self, rack: Rack) -> None:
        rack.start_workers()
        rack.loaded = {"worker-0", "worker-1"}
        rack.vitals = {"worker-1": Vitals(0, 1, (self.LOST,))}
        rack.look()

        assert rack.hired[1].killed
        assert rack.coordinator.lost == [("worker-1", True)]  # no row is to blame
        assert rack.notes == [
            "worker-1: set aside, 1 engine left: the RTX 4090 (card 1 of a) has fallen off the "
            "bus: restart its machine; if it happens again, look at the card's power cables, heat "
            "and seat"
        ]
        assert rack.start_workers(LATER) == []

    def test_the_last_one_ends_the_job_with_what_to_do(self, new_rack: Any) -> None:
        rack = new_rack(wanted=1)
        rack.start_workers()
        rack.vitals = {"worker-0": Vitals(0, 1, (self.LOST,))}
        with pytest.raises(
            EngineFailed, match=r"no engine is left: .* fallen off the bus: restart"
        ):
            rack.look()

    def test_a_worker_that_says_so_itself_is_believed(self, rack: Rack) -> None:
        rack.start_workers()
        rack.loaded = {"worker-0", "worker-1"}
        rack.hired[1].over, rack.hired[1].why = True, CardLost("the RTX 4090 has fallen off")
        rack.look()

        assert rack.notes == ["worker-1: set aside, 1 engine left: the RTX 4090 has fallen off"]
