"""Rows that kill engines are found, and no others: on a rack that is otherwise calm, and on one
whose engines die anyway."""

from __future__ import annotations

import pytest

from pipeline.dispatch.events import Blame, UnitRange
from pipeline.dispatch.poison_rows import PoisonRows, best_parts
from tests.dispatch.rack_of_death import RackOfDeath

CALM = 3600.0  # busy seconds: an hour without any other death


class TestOneRowThatKills:
    @pytest.mark.parametrize("workers", [1, 2, 4])
    @pytest.mark.parametrize("exact", [True, False])
    def test_it_alone_becomes_an_error_row(self, workers: int, exact: bool) -> None:
        poison = frozenset({(3, 77)})
        rack = RackOfDeath([400] * 8, workers, poison, exact=exact).run()

        assert rack.errors == [(3, 77)]

    def test_it_costs_four_engines(self) -> None:
        rack = RackOfDeath([400] * 8, 1, frozenset({(3, 77)})).run()

        assert rack.deaths == 4  # twice among others, twice alone
        assert rack.attempts == [4]

    @pytest.mark.parametrize("row", [(0, 0), (0, 63), (4, 0), (7, 399)])
    def test_wherever_it_is(self, row: tuple[int, int]) -> None:
        rack = RackOfDeath([400] * 8, 2, frozenset({row})).run()

        assert rack.errors == [row]
        assert rack.deaths <= 7

    def test_a_job_of_that_row_alone_ends(self) -> None:
        rack = RackOfDeath([1], 1, frozenset({(0, 0)})).run()

        assert rack.errors == [(0, 0)]
        assert rack.deaths <= 4

    def test_one_that_makes_its_engine_hang_is_found_too(self) -> None:
        rack = RackOfDeath([400] * 8, 2, frozenset({(3, 77)}), exact=False, hangs=True).run()

        assert rack.errors == [(3, 77)]

    def test_one_that_kills_at_once_is_found_too(self) -> None:
        rack = RackOfDeath([400] * 8, 2, frozenset({(3, 77)}), poison_ticks=0, exact=False).run()

        assert rack.errors == [(3, 77)]


def test_several_are_all_found() -> None:
    poison = frozenset({(0, 5), (0, 6), (3, 77), (6, 300)})
    rack = RackOfDeath([400] * 8, 3, poison).run()

    assert sorted(rack.errors) == sorted(poison)


class TestDeathsByChance:
    @pytest.mark.parametrize("mean_seconds", [600, 60, 15])
    def test_no_row_becomes_an_error_row(self, mean_seconds: float) -> None:
        for seed in range(10):
            rack = RackOfDeath([200] * 10, 3, chance=1 / mean_seconds, seed=seed).run()
            assert rack.errors == []

    @pytest.mark.parametrize("mean_seconds", [600, 60])
    def test_they_do_not_cost_much_more_for_looking_into_them(self, mean_seconds: float) -> None:
        def ticks(poison_rows: bool) -> int:
            racks = (
                RackOfDeath(
                    [400] * 10, 3, chance=1 / mean_seconds, seed=seed, poison_rows=poison_rows
                )
                for seed in range(10)
            )
            return sum(rack.run().ticks for rack in racks)

        assert ticks(True) < 1.1 * ticks(False)

    def test_a_row_that_kills_is_found_among_them(self) -> None:
        for seed in range(10):
            poison = frozenset({(seed, 50)})
            rack = RackOfDeath([200] * 10, 3, poison, chance=1 / 60, seed=seed).run()
            assert rack.errors == list(poison)


class TestTheSearch:
    FLIGHTS = (UnitRange(0, 0, 100), UnitRange(4, 20, 48))

    def test_one_death_is_chance(self) -> None:
        made = PoisonRows()

        assert made.died(self.FLIGHTS, 10.0, CALM, "x") == []
        assert made.next_trial("a") is None

    def test_only_rows_that_were_at_both_deaths_are_set_apart(self) -> None:
        made = PoisonRows()
        made.died(self.FLIGHTS, 10.0, CALM, "x")
        pieces = made.died((UnitRange(0, 90, 300),), 10.0, CALM, "y")

        assert sorted(s for p in pieces for s in p.spans)[0].start == 90
        assert sum(p.rows for p in pieces) == 10
        assert {(p.deaths, p.why) for p in pieces} == {(2, "y")}

    def test_rows_that_have_their_result_are_cleared(self) -> None:
        made = PoisonRows()
        made.died(self.FLIGHTS, 10.0, CALM, "x")
        made.settled(UnitRange(0, 0, 100))

        pieces = made.died(self.FLIGHTS, 10.0, CALM, "x")
        assert {s.unit for p in pieces for s in p.spans} == {4}

    def test_what_kills_clears_the_rest_of_its_case(self) -> None:
        made = PoisonRows()
        for _ in range(2):
            made.died((UnitRange(0, 0, 256),), 10.0, CALM, "x")
        first = made.next_trial("a")
        assert first is not None
        made.begun("a", 100.0)

        assert made.died_alone("a", 103.0, CALM, "x")
        assert sum(p.rows for p in made.apart) == first.rows

    def test_a_trial_that_its_engine_never_saw_proves_nothing(self) -> None:
        made = PoisonRows()
        for _ in range(2):
            made.died((UnitRange(0, 0, 256),), 10.0, CALM, "x")
        first = made.next_trial("a")

        assert made.died_alone("a", 103.0, CALM, "could not be loaded") is False
        assert made.next_trial("b") == first

    def alone(self, made: PoisonRows, busy: float, *, blame: Blame = Blame.TOLD) -> int:
        """Deaths of one row alone until it is quarantined."""
        while not made.apart:
            made.died((UnitRange(0, 7, 8),), 10.0, busy, "x")
        for deaths in range(1, 100):
            assert made.next_trial("a") is not None
            made.begun("a", 0.0)
            made.died_alone("a", 5.0, busy, "x", blame)
            if made.next_quarantined("a") is not None:
                return deaths
        raise AssertionError

    def test_two_deaths_alone_condemn_a_row_where_nothing_else_dies(self) -> None:
        assert self.alone(PoisonRows(), CALM) == 2

    def test_a_third_is_needed_where_processes_vanish_without_a_word(self) -> None:
        assert self.alone(PoisonRows(), CALM, blame=Blame.UNTOLD) == 3

    def test_more_are_needed_where_engines_die_without_it(self) -> None:
        made = PoisonRows()
        for unit in range(1, 20):
            made.died((UnitRange(unit, 0, 10),), 10.0, 100.0, "x")

        assert self.alone(made, 100.0) > 5

    def test_a_condemned_row_that_is_given_back_is_condemned_still(self) -> None:
        made = PoisonRows()
        self.alone(made, CALM)
        assert made.next_quarantined("b") is None

        assert made.given_back("a", (UnitRange(0, 7, 8),))
        assert made.next_quarantined("b") is not None

    def remembered(self, made: PoisonRows, *done: int) -> PoisonRows:
        """Another one that was told what ``made`` knows; units that are ``done`` by now."""
        other = PoisonRows()
        other.recall(made.memory(lost=2, busy=CALM), done.__contains__)
        return other

    def test_the_search_goes_on_with_what_another_one_knew(self) -> None:
        made = PoisonRows()
        made.died(self.FLIGHTS, 10.0, CALM, "x")
        assert self.remembered(made).died((UnitRange(0, 90, 300),), 10.0, CALM, "y")

        made.died(self.FLIGHTS, 10.0, CALM, "x")
        assert self.remembered(made).apart == made.apart

    def test_what_is_done_meanwhile_is_no_more_suspected(self) -> None:
        made = PoisonRows()
        for _ in range(2):
            made.died(self.FLIGHTS, 10.0, CALM, "x")
        pieces = self.remembered(made, 0).apart
        assert {span.unit for piece in pieces for span in piece.spans} == {4}
        assert not self.remembered(made, 0, 4)

    def test_a_condemned_row_stays_condemned_though_nobody_knows_who_had_it(self) -> None:
        made = PoisonRows()
        self.alone(made, CALM)
        assert self.remembered(made).next_quarantined("b") is not None

    def test_a_piece_that_was_being_tried_is_tried_again_after_the_next_death(self) -> None:
        made = PoisonRows()
        for _ in range(2):
            made.died((UnitRange(0, 7, 8),), 10.0, CALM, "x")
        made.next_trial("a")
        other = self.remembered(made)
        assert other.next_trial("b") is None
        assert other.died((UnitRange(0, 0, 100),), 10.0, CALM, "x")


@pytest.mark.parametrize(("rows", "parts"), [(1, 1), (2, 2), (3, 3)])
def test_few_rows_are_tried_one_by_one(rows: int, parts: int) -> None:
    assert best_parts(rows) == parts


def test_a_death_is_dear_so_pieces_are_many() -> None:
    assert 8 <= best_parts(256) <= 20
    assert best_parts(256, restart_seconds=1, trial_seconds=10) < 5
