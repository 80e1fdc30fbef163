"""What is said of workers' cards."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.engine.machine.card_notes import LONG_SECONDS, CardNotes, CardsNow, readings_in_words
from pipeline.engine.machine.card_reading import CardReading, Slowed
from pipeline.engine.machine.vitals import Vitals

HOT = CardReading(
    0, "NVIDIA GeForce RTX 3090", "GPU-0", watts=240.0, limit_watts=350.0, usual_limit_watts=350.0,
    celsius=93, slowed=(Slowed.HEAT,),
)  # fmt: skip


def said(card: CardReading, seconds: float, worker: str = "worker-0") -> list[str]:
    """Of a card that is so for a while, looked at every second."""
    notes = CardNotes()
    vitals = {worker: Vitals(0, 1, (card,))}
    return [line for at in range(int(seconds) + 1) for line in notes.lines(at, vitals)]


def test_a_card_that_heat_slows_down_for_a_while_is_said_once() -> None:
    assert said(HOT, 10 * LONG_SECONDS) == [
        "worker-0: RTX 3090 at 93 °C, slowed down by heat: look at its fans and the air around it"
    ]


def test_a_moment_of_heat_is_not_worth_a_word() -> None:
    assert said(HOT, LONG_SECONDS - 1) == []


def test_heat_that_comes_and_goes_begins_anew() -> None:
    notes, hot = CardNotes(), {"worker-0": Vitals(0, 1, (HOT,))}
    cool = {"worker-0": Vitals(0, 1, (replace(HOT, slowed=()),))}
    for start in range(0, 300, 40):
        for at in range(start, start + 20):
            assert notes.lines(at, hot) == []
        for at in range(start + 20, start + 40):
            assert notes.lines(at, cool) == []


def test_the_next_engine_on_the_card_is_no_news() -> None:
    notes = CardNotes()
    lines = []
    for at in range(200):
        worker = "worker-0" if at < 100 else "worker-0.1"
        lines += notes.lines(at, {worker: Vitals(0, 1, (HOT,))})

    assert len(lines) == 1


def test_a_card_at_its_usual_limit_of_power_is_not_worth_a_word() -> None:
    assert said(replace(HOT, slowed=(Slowed.POWER,)), 100) == []


def test_a_card_that_its_owner_has_capped_is_said() -> None:
    capped = replace(HOT, slowed=(Slowed.POWER,), limit_watts=250.0)

    assert said(capped, 100) == [
        "worker-0: RTX 3090 is held to 250 of 350 W, as it is set (nvidia-smi -pl)"
    ]


def test_hardware_that_brakes_is_said_with_where_to_look() -> None:
    assert said(replace(HOT, slowed=(Slowed.HARDWARE,)), 100) == [
        "worker-0: RTX 3090 is slowed down by its hardware: look at its power cables and supply"
    ]


def test_all_cards_of_a_run_in_a_few_words() -> None:
    cool = replace(HOT, index=1, uuid="GPU-1", celsius=70, slowed=(Slowed.POWER,))
    now = CardsNow.of([Vitals(0, 1, (HOT,)), Vitals(0, 1, (cool,))])

    assert now == CardsNow(480.0, 93, 1, 2)
    assert readings_in_words(now.watts, now.celsius, now.slowed) == [
        "480 W", "93 °C", "1 card slowed down",
    ]  # fmt: skip


def test_a_card_that_two_engines_share_counts_once() -> None:
    assert CardsNow.of([Vitals(0, 1, (HOT,)), Vitals(0, 1, (HOT,))]).watts == 240.0


@pytest.mark.parametrize("workers", [[], [Vitals(0, 1)]])
def test_without_cards_there_is_nothing_to_say(workers: list[Vitals]) -> None:
    now = CardsNow.of(workers)

    assert readings_in_words(now.watts, now.celsius, now.slowed) == []
