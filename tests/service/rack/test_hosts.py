"""A rack of several hosts: machines come, are cut off, die; the job is done all the same."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline import verify
from tests.service.rack.conftest import ROWS, Rack
from tests.support.processes import Started


def whole(folder: Path, run: Started) -> str:
    """What a run said that has ended with every row there once."""
    done = run.wait()
    assert done.code == 0, done.err
    verdict = verify(str(folder / "out"))
    assert verdict.faults == []
    assert verdict.rows == sum(ROWS)
    return done.err


def until(run: Started, words: str) -> None:
    run.wait_until(lambda: words in run.output, words)


def test_a_laptop_with_the_token_alone_sees_the_rack(rack: Rack) -> None:
    shown = rack.laptop.rackmill("rack", "show", "--address", rack.address, "--json").json

    cards = {m["host"]: [card["name"] for card in m["cards"]] for m in shown["machines"]}
    assert cards["left"] == ["rtx4090", "rtx4090"]
    assert shown["fits"]["rtx4090"][0]["model"] == "gemma-3-27b"


def test_who_has_another_token_does_not_join(rack: Rack, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("f" * 64)
    join = ("rack", "join", rack.address, "--host", rack.laptop.address)

    refused = rack.laptop.rackmill(*join, RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))

    assert refused.code == 2
    assert "this Ray does not take the token that is here" in refused.err


def test_where_no_rack_is_none_is_joined(rack: Rack) -> None:
    refused = rack.laptop.rackmill("rack", "join", f"{rack.head.address}:6999")

    assert refused.code == 2
    assert "no Ray answers there" in refused.err


def test_a_machine_is_in_one_rack_at_a_time(rack: Rack) -> None:
    again = rack.head.rackmill("rack", "start", "--head")
    other = rack.left.rackmill("rack", "join", rack.address)

    assert (again.code, other.code) == (2, 2)
    assert f"this machine is the head of the rack of {rack.address} already" in again.err
    assert "rackmill rack stop" in other.err


@pytest.mark.long  # who comes to a rack: driver/slots/membership, whose tests are quick
def test_a_machine_that_joins_late_is_used(rack: Rack, job: Path) -> None:
    run = rack.run(job)
    until(run, "engine  ready")
    rack.join(rack.right, "rtx3090")
    until(run, "right is there: 1 more engine")

    said = whole(job, run)

    assert said.count("engine  ready") >= 2


@pytest.mark.long  # the ordinary tests kill one, which costs the rack more
def test_a_machine_that_is_cut_off_and_comes_back_costs_no_row(rack: Rack, job: Path) -> None:
    run = rack.run(job, **{"engine.simulated.step_seconds": "0.3"})
    until(run, "engine  ready")
    time.sleep(3)
    rack.left.cut_off()
    until(run, "left is gone")
    rack.left.reconnect()
    until(run, "left is there: 2 more engines")

    whole(job, run)


def test_a_machine_that_is_killed_costs_no_row(rack: Rack, job: Path) -> None:
    run = rack.run(job)
    until(run, "engine  ready")
    time.sleep(2)
    rack.right.kill()

    whole(job, run)


@pytest.mark.long  # the ordinary tests start it again under a submitted job
def test_after_the_head_was_started_again_the_same_command_goes_on(rack: Rack, job: Path) -> None:
    run = rack.run(job, **{"engine.simulated.step_seconds": "0.4"})
    until(run, "engine  ready")
    time.sleep(3)
    assert rack.head.rackmill("rack", "stop").code == 0
    cut_short = run.wait()
    rack.started()

    assert cut_short.code == 1
    assert "the same command goes on from there" in cut_short.err
    deadline = time.monotonic() + 120
    while (
        '"left"'
        not in rack.laptop.rackmill("rack", "show", "--address", rack.address, "--json").out
    ):
        assert time.monotonic() < deadline, "the machine did not come back to its rack"
        time.sleep(1)

    whole(job, rack.run(job))
