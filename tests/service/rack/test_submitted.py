"""Jobs that are submitted to a rack: the laptop they came from is not needed any more."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import verify
from tests.service.rack.conftest import ROWS, Rack

pytestmark = pytest.mark.ray
_PATIENCE_SECONDS = 180.0


class Queue:
    """The rack's queue, from the laptop."""

    def __init__(self, rack: Rack) -> None:
        self.rack = rack

    def ask(self, command: str, *arguments: str) -> Any:
        done = self.rack.laptop.rackmill(
            command, *arguments, "--address", self.rack.address, "--json"
        )
        assert done.code == 0, done.err
        return done.json

    def submit(self, folder: Path, out: str, *arguments: str, step: float = 0.05) -> str:
        """The id of a job that writes into ``out``. ``step``: seconds; every 0.05 are some 13 s of
        work, and on a slow machine each question of a test takes some seconds, too."""
        given = ("--output", str(folder / out), "--name", out)
        pace = ("--set", f"engine.simulated.step_seconds={step}")
        job = str(folder / "job.yaml")
        return str(self.ask("submit", job, *given, *pace, *arguments)["id"])

    def job(self, job: str) -> dict[str, Any]:
        found: dict[str, Any] = next(j for j in self.ask("jobs")["jobs"] if j["id"] == job)
        return found

    def until(self, job: str, says: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not says(found := self.job(job)):
            waits = found["ended"] is None and time.monotonic() < deadline
            assert waits, f"{found}\n{self.log(job)}"
            time.sleep(2)  # each question is a process, which takes that long to start
        return found

    def ended(self, job: str) -> dict[str, Any]:
        return self.until(job, lambda found: found["ended"] is not None)

    def log(self, job: str) -> str:
        return self.rack.laptop.rackmill("logs", job, "--address", self.rack.address).out


@pytest.fixture(scope="module")
def queue(rack: Rack) -> Queue:
    return Queue(rack)


def assert_whole(output: Path) -> None:
    verdict = verify(str(output))
    assert verdict.faults == []
    assert verdict.rows == sum(ROWS)


def under_way(found: dict[str, Any]) -> bool:
    return bool(found["rows_done"])


def test_a_job_is_done_while_nothing_runs_on_the_laptop(queue: Queue, job: Path) -> None:
    name = queue.submit(job, "alone", step=0.02)

    assert queue.rack.laptop.processes() == []
    assert queue.ended(name)["state"] == "SUCCEEDED"
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
    assert queue.ended(high)["state"] == "SUCCEEDED"
    assert queue.ended(low)["state"] == "SUCCEEDED"
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
        assert queue.ended(name)["state"] == "SUCCEEDED"
    assert_whole(job / "one")
    assert_whole(job / "two")


def test_a_job_that_is_stopped_keeps_what_is_committed(queue: Queue, job: Path) -> None:
    name = queue.submit(job, "stopped", step=0.15)
    queue.until(name, under_way)

    assert queue.ask("stop", name)["state"] == "STOPPED"
    again = queue.submit(job, "stopped", step=0.02)
    assert queue.ended(again)["state"] == "SUCCEEDED"
    assert "resuming" in queue.log(again)
    assert_whole(job / "stopped")


def test_a_job_goes_on_when_the_head_was_started_again(queue: Queue, job: Path) -> None:
    name = queue.submit(job, "restarted", step=0.15)
    queue.until(name, under_way)

    assert queue.rack.head.rackmill("rack", "stop").code == 0
    queue.rack.started()

    assert queue.ended(name)["state"] == "SUCCEEDED"
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
