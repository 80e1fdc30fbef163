"""The simulated rack: the real dispatcher over cards that are only so fast."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from pipeline.simulate.rack import Failures, RackRun, SimulatedRack
from tests.bench.peers.constant_rate_card import ConstantRateCard, CostRow
from tests.simulate.makespan import least_makespan

SPEEDS = (0.4, 0.9, 1.0, 1.8)


class Counting(ConstantRateCard):
    """Remembers which rows ended on it."""

    def __init__(self, name: str, speed: float, slots: int) -> None:
        super().__init__(name, speed, slots)
        self.ended: Counter[int] = Counter()

    def step(self) -> list[CostRow]:
        rows = super().step()
        self.ended.update(row.id for row in rows)
        return rows


def work(rows: int) -> list[CostRow]:
    dice = random.Random(7)
    return [CostRow(i, min(8.0, dice.lognormvariate(-0.3, 0.8))) for i in range(rows)]


def cards() -> list[Counting]:
    return [Counting(f"card-{i}", speed, 8) for i, speed in enumerate(SPEEDS)]


def run(made: list[Counting], rows: list[CostRow], failures: Failures | None = None) -> RackRun:
    rack = SimulatedRack(made, SPEEDS, rows, rows_per_unit=256, failures=failures)
    facts = rack.run()
    rack.dispatcher.ranges.check()
    return facts


def test_every_row_is_done_once_when_nobody_dies() -> None:
    made, rows = cards(), work(3000)
    run(made, rows)

    assert sum((card.ended for card in made), Counter()) == Counter(row.id for row in rows)


def test_every_row_is_done_though_cards_die() -> None:
    made, rows = cards(), work(3000)
    facts = run(made, rows, Failures(per_hour=6.0, seed=1))

    assert facts.deaths > 0
    assert facts.rows_lost > 0
    ended = sum((card.ended for card in made), Counter())
    assert set(ended) == {row.id for row in rows}
    assert ended.total() <= len(rows) + facts.rows_lost


def test_cards_end_together_however_different_they_are() -> None:
    made, rows = cards(), work(15_000)
    facts = run(made, rows)
    best = sum(row.cost for row in rows) / sum(SPEEDS)

    assert best <= facts.makespan <= 1.03 * best


def test_faster_cards_do_more_rows() -> None:
    made = cards()
    run(made, work(3000))

    done = [card.ended.total() for card in made]
    assert done == sorted(done)
    assert done[3] / done[0] == pytest.approx(1.8 / 0.4, rel=0.15)


def test_a_rack_runs_the_same_way_every_time() -> None:
    failures = Failures(per_hour=6.0, seed=1)

    assert run(cards(), work(1000), failures) == run(cards(), work(1000), failures)


def test_the_best_possible_time_counts_only_cards_that_are_there() -> None:
    """One card does 10 in 10 s, then both do the other 30 at 3 a second."""
    assert least_makespan(40.0, [1.0, 2.0], [[(0.0, 99.0)], [(10.0, 99.0)]]) == 20.0
    assert least_makespan(5.0, [1.0], [[(3.0, 99.0)]]) == 8.0
