"""The watchdog says what did not move, and only that."""

from __future__ import annotations

import threading

from pipeline.worker.engine_loop.watchdog import Watchdog


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_takes_too_long_is_said() -> None:
    clock = Clock()
    watchdog = Watchdog(lambda why: None, clock)
    watchdog.expect("the engine made no step", 600)
    clock.now = 599.0
    assert watchdog.overdue() is None

    clock.now = 600.0
    assert watchdog.overdue() == "the engine made no step for 10 min"


def test_every_step_counts_anew() -> None:
    clock = Clock()
    watchdog = Watchdog(lambda why: None, clock)
    for _ in range(10):
        watchdog.expect("the engine made no step", 10)
        clock.now += 9.0
        assert watchdog.overdue() is None


def test_who_rests_is_not_late() -> None:
    clock = Clock()
    watchdog = Watchdog(lambda why: None, clock)
    watchdog.expect("the engine made no step", 10)
    watchdog.rest()
    clock.now = 1e6

    assert watchdog.overdue() is None


def test_it_barks_from_a_thread_of_its_own() -> None:
    barked = threading.Event()
    watchdog = Watchdog(lambda why: barked.set())
    watchdog.expect("nothing", 0.0)
    watchdog.start()

    assert barked.wait(30)
    watchdog.stop()
