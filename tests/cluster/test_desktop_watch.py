"""What is seen of a machine's cards: which programs are ours, and which are others'."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from pipeline.cluster.desktop.watch import DesktopWatch
from pipeline.dispatch.desktop_use import CardSample, Ours, Program, YieldDecision
from tests.support.fake_cards import GIB, RTX_3090, FakeCards, FakeProcess

Shown = Callable[..., FakeCards]
_NOBODY = 2**22 + 1  # no process has such a number


@pytest.fixture
def child() -> Iterator[int]:
    """A process that this one has started."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    yield process.pid
    process.kill()
    process.wait()


def sample(ours: Ours = Ours.NOTHING, *, engines: bool = True, family: int = 1) -> CardSample:
    found = DesktopWatch(300.0, engines, family).sample(0, {0: ours}, 5.0)
    assert found is not None
    return found


def test_what_ray_has_started_is_ours(fake_cards: Shown, child: int) -> None:
    cards = fake_cards(RTX_3090)
    cards.change(0, processes=[FakeProcess(child, 20 * GIB), FakeProcess(_NOBODY, GIB, use=40)])

    assert sample(Ours.STEADY, family=os.getpid()).others == (Program("another program", GIB, 0.4),)


def test_who_is_none_of_ours_is_told_by_name(fake_cards: Shown, child: int) -> None:
    fake_cards(RTX_3090).change(0, processes=[FakeProcess(child, GIB)])
    found = sample(family=_NOBODY).others

    assert found is not None
    assert found[0].name.startswith("python")


def test_where_our_own_engine_is_not_told_of_nobody_else_is_trusted(
    fake_cards: Shown, child: int
) -> None:
    """As in containers, whose processes have other numbers for the driver."""
    fake_cards(RTX_3090).change(0, processes=[FakeProcess(_NOBODY, 20 * GIB)])

    assert sample(Ours.STEADY, family=os.getpid()).others is None
    assert sample(Ours.LOADING, family=os.getpid()).others is not None


def test_in_a_rehearsal_no_engine_of_ours_is_on_the_card(fake_cards: Shown) -> None:
    fake_cards(RTX_3090).change(0, utilization=60, used_bytes=GIB)
    found = sample(Ours.STEADY, engines=False)

    assert (found.ours, found.use, found.used_bytes) == (Ours.NOTHING, 0.6, GIB)
    assert found.others == ()


def test_a_game_is_seen_on_its_card_alone(fake_cards: Shown) -> None:
    cards = fake_cards(RTX_3090, RTX_3090)
    watch = DesktopWatch(300.0, True, 1)
    for second in range(10):
        watch.see(float(second))
    cards.change(1, processes=[FakeProcess(_NOBODY, 4 * GIB, use=50)], utilization=50)
    for second in range(10, 20):
        watch.see(float(second))
    calls = watch.look({})

    assert calls is not None
    assert [calls[index].away for index in range(2)] == [False, True]


def test_without_a_driver_there_is_nothing_to_watch(fake_cards: Shown) -> None:
    fake_cards(error="LIBRARY_NOT_FOUND")

    assert DesktopWatch(300.0, True, 1).look({}) is None


def test_cards_that_nobody_has_looked_at_yet_are_not_free(fake_cards: Shown) -> None:
    fake_cards(RTX_3090)

    assert DesktopWatch(300.0, True, 1).look({}) == {0: YieldDecision(away=True)}


def test_a_card_that_tells_nothing_any_more_stays_as_it_was(fake_cards: Shown) -> None:
    cards = fake_cards(RTX_3090)
    watch = DesktopWatch(300.0, True, 1)
    for second in range(10):
        watch.see(float(second))
    cards.change(0, lost=True)
    watch.see(11.0)

    assert watch.look({}) == {0: YieldDecision(away=False)}
