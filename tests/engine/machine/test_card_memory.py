"""Waiting for a card's memory, with a card and a clock that are told what to do."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.engine.machine.card_memory import wait_for_memory

GIB = 1 << 30


class Card:
    """Its free memory as time passes."""

    def __init__(self, free: Callable[[float], int]) -> None:
        self._free = free
        self.now = 0.0
        self.said: list[str] = []
        self.holder = ""

    def wait_for(self, wanted: int) -> bool:
        return wait_for_memory(
            lambda: self._free(self.now), wanted, self.said.append,
            held=lambda: self.holder, clock=lambda: self.now, sleep=self.sleep,
        )  # fmt: skip

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_free_card_is_taken_at_once() -> None:
    card = Card(lambda now: 24 * GIB)

    assert card.wait_for(20 * GIB)
    assert (card.now, card.said) == (0.0, [])


def test_memory_that_comes_back_is_waited_for() -> None:
    card = Card(lambda now: 2 * GIB if now < 8 else 24 * GIB)

    assert card.wait_for(20 * GIB)
    assert 8 <= card.now < 9
    assert card.said == ["waiting for the card's memory: 2.0 GiB of 20.0 GiB are free"]


def test_who_holds_the_memory_is_said() -> None:
    card = Card(lambda now: 2 * GIB)
    card.holder = "held by game.exe (pid 7, 9.0 GiB)"
    card.wait_for(20 * GIB)

    assert card.said == [
        "waiting for the card's memory: 2.0 GiB of 20.0 GiB are free; "
        "held by game.exe (pid 7, 9.0 GiB)"
    ]


def test_memory_that_comes_back_slowly_is_waited_for() -> None:
    card = Card(lambda now: int((2 + now / 2) * GIB))

    assert card.wait_for(20 * GIB)
    assert card.now >= 36


def test_what_another_keeps_is_not_waited_for_for_ever() -> None:
    card = Card(lambda now: 5 * GIB)

    assert not card.wait_for(20 * GIB)
    assert 10 < card.now < 30


def test_there_is_an_end_to_waiting_in_any_case() -> None:
    card = Card(lambda now: int((2 + now / 50) * GIB))

    assert not card.wait_for(20 * GIB)
    assert card.now < 130
