"""Ctrl-C and SIGTERM, as a run takes them."""

from __future__ import annotations

import signal

import pytest

from pipeline.cli.run import signals
from pipeline.cli.run.signals import stopping_on_signals
from pipeline.driver.stop.stop import Stop


@pytest.fixture
def _no_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_ECHO_SECONDS", 0.0)


@pytest.mark.usefixtures("_no_echo")
@pytest.mark.parametrize(("first", "by"), [(signal.SIGINT, ""), (signal.SIGTERM, "SIGTERM")])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_first_asks_and_the_second_insists(
    first: signal.Signals, second: signal.Signals, by: str
) -> None:
    stop = Stop()
    with stopping_on_signals(stop), stop.being_heeded():
        signal.raise_signal(first)
        assert (stop.asked, stop.by) == (True, by)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(second)


def test_what_a_wrapper_passes_on_is_the_same_wish() -> None:
    """A terminal sends Ctrl-C to `uv run` and to rackmill, and `uv run` sends it again."""
    stop = Stop()
    with stopping_on_signals(stop), stop.being_heeded():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert stop.asked


@pytest.mark.usefixtures("_no_echo")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_where_no_one_would_heed_it_everything_ends_at_once(number: signal.Signals) -> None:
    stop = Stop()
    with stopping_on_signals(stop):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        assert not stop.asked


@pytest.mark.usefixtures("_no_echo")
def test_ctrl_c_after_cancel_insists() -> None:
    stop = Stop()
    with stopping_on_signals(stop), stop.being_heeded():
        stop.ask(5.0, by="rackmill stop")
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_afterwards_signals_do_what_they_did() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stopping_on_signals(Stop()):
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_time_for_what_is_in_flight_is_the_jobs_unless_someone_says_otherwise() -> None:
    stop = Stop()
    assert stop.grace(30.0) == 30.0
    stop.ask()
    assert stop.grace(30.0) == 30.0
    stop.ask(0.0)
    assert stop.grace(30.0) == 0.0


def test_what_the_shell_has_it_ignore_is_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopping_on_signals(Stop()):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
