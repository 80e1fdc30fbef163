"""Whose time is up."""

from __future__ import annotations

from pipeline.worker.engine_loop.in_hand import Timeouts


def test_each_has_its_own_time() -> None:
    timeouts: Timeouts[str] = Timeouts(10.0)
    timeouts.begin("a", 0.0)
    timeouts.begin("b", 5.0)

    assert timeouts.over(9.9) == []
    assert timeouts.over(10.0) == ["a"]
    assert timeouts.over(14.0) == []
    assert timeouts.over(20.0) == ["b"]


def test_who_is_done_is_never_late() -> None:
    timeouts: Timeouts[str] = Timeouts(10.0)
    timeouts.begin("a", 0.0)
    timeouts.end("a")
    timeouts.end("never begun")

    assert timeouts.over(100.0) == []


def test_beginning_again_gives_no_more_time() -> None:
    timeouts: Timeouts[str] = Timeouts(10.0)
    timeouts.begin("a", 0.0)
    timeouts.begin("a", 8.0)

    assert timeouts.over(10.0) == ["a"]


def test_without_a_limit_nobody_is_late() -> None:
    timeouts: Timeouts[str] = Timeouts(None)
    timeouts.begin("a", 0.0)

    assert timeouts.over(1e9) == []
