"""A rack of several hosts: jobs are run on it and submitted to it, machines come, are cut off, die;
the jobs are done all the same. One rack for all: it takes longer to start than most of them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import verify
from tests.service.rack.conftest import ROWS, SERVER, Rack
from tests.service.rack.rack_queue import Queue
from tests.support.processes import Started

pytestmark = pytest.mark.ray


def assert_whole(output: Path) -> None:
    verdict = verify(str(output))
    assert verdict.faults == []
    assert verdict.rows == sum(ROWS)


def whole(folder: Path, run: Started) -> str:
    """What a run said that has ended with every row there once."""
    done = run.wait()
    assert done.code == 0, done.err
    assert_whole(folder / "out")
    return done.err


def until(run: Started, words: str) -> None:
    run.wait_until(lambda: words in run.output, words)


@pytest.fixture(scope="module")
def shown(rack: Rack) -> Any:
    return rack.laptop.rackmill("rack", "show", "--address", rack.address, "--json").json


def test_a_laptop_with_the_token_alone_sees_the_rack(shown: Any) -> None:
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


# -- a machine that vLLM cannot drive, with an engine of its own


def test_the_rack_shows_it(rack: Rack, shown: Any) -> None:
    printed = rack.head.rackmill("rack", "show", "--address", rack.address).out

    assert f"engine: llama.cpp {SERVER}" in printed
    engines = {machine["host"]: machine["engine"] for machine in shown["machines"]}
    assert engines["own"] == {"kind": "llama.cpp", "url": SERVER}
    assert engines["left"] is None


@pytest.mark.long  # such a job, without a rack: runs/test_mixed_run
def test_it_works_on_a_job_that_may_be_mixed(
    rack: Rack, job: Path, read_output: Callable[[Path], pa.Table]
) -> None:
    run = rack.run(job, **{"resources.mixed": "true", "engine.max_num_seqs": "64"})
    ended = run.wait()
    assert ended.code == 0, ended.err

    table = read_output(job / "out")
    assert table["id"].to_pylist() == list(range(sum(ROWS)))
    engines = set(table["engine"].to_pylist())
    assert {engine.split()[0] for engine in engines} == {"llama.cpp", "simulated"}


# -- submitted jobs: the laptop that they came from is not needed any more


@pytest.fixture(scope="module")
def queue(rack: Rack) -> Queue:
    return Queue(rack)


def under_way(found: dict[str, Any]) -> bool:
    return bool(found["rows_done"])


def test_a_job_is_done_while_nothing_runs_on_the_laptop(queue: Queue, job: Path) -> None:
    name = queue.submit(job, "alone", step=0.02)

    assert queue.rack.laptop.processes() == []
    assert queue.ended(name, job / "alone")["state"] == "SUCCEEDED"
    assert_whole(job / "alone")
    assert "rows completed in" in queue.log(name)


@pytest.mark.long  # who gets which cards is decided in cluster/allocation, whose tests are quick
def test_a_higher_priority_takes_the_cards_and_its_engines_are_loaded_already(
    queue: Queue, job: Path
) -> None:
    low = queue.submit(job, "low", step=0.15)
    queue.until(low, under_way)
    high = queue.submit(job, "high", "--priority", "5", step=0.15)

    queue.until(low, lambda found: found["state"] == "PENDING")
    assert queue.job(high)["state"] == "RUNNING"
    assert queue.ended(high, job / "high")["state"] == "SUCCEEDED"
    assert queue.ended(low, job / "low")["state"] == "SUCCEEDED"
    assert "the engine of an earlier job is still loaded" in queue.log(high)
    assert_whole(job / "low")
    assert_whole(job / "high")


@pytest.mark.long  # likewise
def test_equals_share_the_cards_and_rack_show_tells_so(queue: Queue, job: Path) -> None:
    one, two = (queue.submit(job, name) for name in ("one", "two"))
    for name in (one, two):
        queue.until(name, under_way)

    shown = queue.ask("rack", "show")
    cards = [card["job"] for machine in shown["machines"] for card in machine["cards"]]
    assert set(filter(None, cards)) == {"one", "two"}
    for name in (one, two):
        assert queue.ended(name, job / name)["state"] == "SUCCEEDED"
    assert_whole(job / "one")
    assert_whole(job / "two")


# who is told to stop: service/queue/test_queue_ends; what a stopped run keeps: runs/test_stop
@pytest.mark.long
def test_a_job_that_is_stopped_keeps_what_is_committed(queue: Queue, job: Path) -> None:
    name = queue.submit(job, "stopped", step=0.15)
    queue.begun(name, job / "stopped")

    assert queue.ask("stop", name)["state"] == "STOPPED"
    again = queue.submit(job, "stopped", step=0.02)
    assert queue.ended(again, job / "stopped")["state"] == "SUCCEEDED"
    assert "resuming" in queue.log(again)
    assert_whole(job / "stopped")


# that every job goes on then: service/queue/test_queue; that who asks waits: test_client there
@pytest.mark.long
def test_a_job_goes_on_when_the_head_was_started_again(queue: Queue, job: Path) -> None:
    name = queue.submit(job, "restarted", step=0.15)
    queue.begun(name, job / "restarted")

    assert queue.rack.head.rackmill("rack", "stop").code == 0
    queue.rack.started()

    assert queue.ended(name, job / "restarted")["state"] == "SUCCEEDED"
    assert "resuming" in queue.log(name)
    assert_whole(job / "restarted")


def test_two_jobs_do_not_write_to_the_same_place(queue: Queue, job: Path) -> None:
    first = queue.submit(job, "same", "--set", "resources.gpu=rtx5090")
    given = ("--output", str(job / "same"), "--address", queue.rack.address)
    second = queue.rack.laptop.rackmill("submit", str(job / "job.yaml"), *given)

    assert second.code == 2
    assert f"is what the job {first} works on" in second.err
    assert (
        "no machine of the rack has what it asks for"
        in queue.until(first, lambda found: found["message"])["message"]
    )
    assert queue.ask("stop", first)["state"] == "STOPPED"


def test_what_is_not_there_on_the_head_is_said_at_once(queue: Queue, job: Path) -> None:
    shutil.copy(job / "job.yaml", job / "elsewhere.yaml")
    elsewhere = (job / "elsewhere.yaml").read_text().replace("/rows/", "/no/such/rows/")
    (job / "elsewhere.yaml").write_text(elsewhere)

    address = ("--address", queue.rack.address)
    refused = queue.rack.laptop.rackmill("submit", str(job / "elsewhere.yaml"), *address)

    assert refused.code == 2
    assert "is not there on the rack's head" in refused.err


# -- machines that come and go


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


@pytest.mark.long  # a command that is run again after its end: runs/test_killed
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


def test_a_machine_that_is_killed_costs_no_row(rack: Rack, job: Path) -> None:
    """The last one here: it does not come back."""
    run = rack.run(job, **{"engine.simulated.step_seconds": "0.15"})
    run.wait_until(lambda: run.output.count("engine  ready") >= 3, "all three engines")
    rack.small.kill()
    until(run, "small is gone")

    whole(job, run)
