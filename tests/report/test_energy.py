"""The energy of a run, from what its workers' meters counted."""

from __future__ import annotations

import pytest

from pipeline.engine.machine.vitals import EnergySpan, Vitals
from pipeline.report.energy import Energy, energy_of


def life(began: float, ended: float, *spans: EnergySpan, metered: bool = True) -> Vitals:
    return Vitals(began, ended, (), spans, metered)


def span(began: float, ended: float, joules: float, meter: str = "a") -> EnergySpan:
    return EnergySpan(meter, began, ended, joules)


def test_lives_on_one_card_one_after_the_other_add_up() -> None:
    found = energy_of([life(0, 10, span(0, 10, 1000)), life(20, 30, span(20, 30, 500))])

    assert found == Energy(1500, 1.0, 20)


def test_cards_add_up() -> None:
    found = energy_of([life(0, 10, span(0, 10, 1000), span(0, 10, 2000, "b"))])

    assert found == Energy(3000, 1.0, 10)


def test_two_engines_that_share_a_processor_do_not_count_it_twice() -> None:
    found = energy_of([life(0, 10, span(0, 10, 1000)), life(5, 15, span(5, 15, 1000))])

    assert found is not None
    assert found.joules == pytest.approx(1500)


def test_what_was_not_metered_is_told() -> None:
    found = energy_of([life(0, 30, span(0, 30, 1000)), life(0, 10, metered=False)])

    assert found is not None
    assert (found.covered, found.complete) == (0.75, False)


def test_without_a_meter_there_is_no_figure() -> None:
    assert energy_of([life(0, 10, metered=False)]) is None
    assert energy_of([]) is None


def test_a_kilowatt_hour_is_3_600_000_joules() -> None:
    assert Energy(3.6e6, 1.0, 1).kwh == 1.0


def test_samples_of_the_power_are_told_apart_from_counters() -> None:
    found = energy_of([life(0, 1, EnergySpan("a", 0, 1, 1.0, counted=False))])

    assert found is not None
    assert not found.counted
