"""Stopping a run: Ctrl-C on a terminal, SIGTERM, twice, from outside. All can be resumed."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.output.commit.records import CANCEL, RUNS
from pipeline.output.runs.run_registry import read_runs
from pipeline.storage.base import open_storage
from tests.runs.slow_job import ROWS, prepare, published, ray_processes, still_alive
from tests.runs.terminal import Terminal
from tests.support.processes import Finished, called
from tests.support.ray_head import SharedRay

pytestmark = pytest.mark.ray

_GONE_SECONDS = 15.0


@dataclass(frozen=True)
class Ended:
    """A run that was stopped, and what a reader saw then."""

    code: int
    err: str
    seconds: float  # from the wish to the end
    left: list[str]  # its processes that lived on
    rows: list[int]
    before: int  # units that were published at the wish
    after: int

    @property
    def said_rows(self) -> int:
        """Of which it said that they are committed."""
        found = re.search(r"stopped: ([\d ]+) of 3 200 rows are committed", self.err)
        assert found is not None, self.err
        return int(found[1].replace(" ", ""))


@dataclass(frozen=True)
class Story:
    """Four runs that were stopped, each in its own way, and the one that came to the end."""

    ended: dict[str, Ended]
    second: Finished  # a run that was started while one was alive
    fresh: Finished  # one that would have deleted what that one did
    files: tuple[Any, Any]  # of the output, before and after these
    cancelled: Finished
    idle: Finished  # cancel, when no run was alive
    killed_left: list[str]  # what a run whose driver was killed left behind, in the joined Ray too
    facts: dict[str, Any]
    output: Path


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory,
    launcher,
    shared_ray,
    write_shards,
    read_output,
    files_of,
) -> Story:
    folder = tmp_path_factory.mktemp("stopped")
    output = prepare(folder, write_shards, step=0.04, workers=1)
    join = ("run", "job.yaml", "--address", shared_ray.address)
    ended: dict[str, Ended] = {}

    def seen() -> list[int]:
        return read_output(output)["id"].to_pylist() if published(output) else []

    def one_more(than: int) -> bool:
        return published(output) > than

    terminal = Terminal("run", "job.yaml", cwd=folder)
    try:
        terminal.wait_until(lambda: one_more(0), "a unit was done")
        before, asked = published(output), time.monotonic()
        terminal.press_ctrl_c()
        code = terminal.wait()
        seconds = time.monotonic() - asked
        left = terminal.gone(15)
        after = published(output)
        ended["Ctrl-C"] = Ended(code, terminal.screen, seconds, left, seen(), before, after)
    finally:
        terminal.close()

    def stop(how: str, wish, step_seconds: float = 0.1) -> Any:
        step = f"engine.simulated.step_seconds={step_seconds}"
        started = launcher.start(
            *join, "--json", "--set", step, cwd=folder, **shared_ray.environment
        )
        before = published(output)
        started.wait_until(lambda: one_more(before), "another unit was done")
        result, asked = None, time.monotonic()
        before = published(output)
        result = wish(started)
        finished = started.wait()
        seconds = time.monotonic() - asked
        assert finished.code == 130, finished.err
        assert not finished.out or finished.json["exit_code"] == finished.code
        ended[how] = Ended(
            finished.code,
            finished.err,
            seconds,
            started.gone(15),
            seen(),
            before,
            published(output),
        )
        return result

    def sigterm(started) -> None:
        os.kill(started.process.pid, signal.SIGTERM)

    def twice(started) -> None:
        os.kill(started.process.pid, signal.SIGINT)
        started.wait_until(lambda: "stopping" in started.output, "it says so")
        time.sleep(0.5)  # no one means two signals that come as one
        os.kill(started.process.pid, signal.SIGINT)

    def cancel(started) -> list[Any]:
        before = files_of(output)
        second = launcher.run("run", "job.yaml", "--json", cwd=folder)
        fresh = launcher.run("run", "job.yaml", "--fresh", cwd=folder)
        after = {name: now for name, now in files_of(output).items() if name in before}
        return [second, fresh, (before, after), launcher.run("stop", "out", "--json", cwd=folder)]

    # the longest wish first: two more commands start and end while this one has rows enough left
    second, fresh, files, cancelled = stop("cancel", cancel, 0.2)
    stop("SIGTERM", sigterm)
    stop("Ctrl-C twice", twice)
    idle = launcher.run("stop", "out", "--json", cwd=folder)
    killed_left = _kill_driver(launcher, join, folder, shared_ray)
    quick = ("--set", "engine.simulated.step_seconds=0")
    finished = launcher.run(*join, *quick, "--json", cwd=folder, **shared_ray.environment)
    assert finished.code == 0, finished.err
    return Story(ended, second, fresh, files, cancelled, idle, killed_left, finished.json, output)


def _kill_driver(launcher, join: tuple[str, ...], folder: Path, ray: SharedRay) -> list[str]:
    """What lives on when only the command is killed, as the kernel does it."""
    started = launcher.start(*join, cwd=folder, **ray.environment)
    there = ray_processes(ray)
    output = folder / "out"
    before = published(output)
    started.wait_until(lambda: published(output) > before, "another unit was done")
    actors = [p for p in called(ray_processes(ray), "Actor") if p not in there]
    ours = actors + [child for actor in actors for child in actor.children(recursive=True)]
    assert len(ours) >= 3  # a worker with its guard, the coordinator
    started.kill_driver()
    return started.gone(_GONE_SECONDS) + [str(p) for p in still_alive(ours, _GONE_SECONDS)]


_WAYS = ["Ctrl-C", "SIGTERM", "Ctrl-C twice", "cancel"]
_GRACEFUL = ["Ctrl-C", "SIGTERM", "cancel"]


@pytest.mark.parametrize("how", _WAYS)
def test_it_says_what_is_committed_what_is_left_and_how_to_go_on(how: str, story: Story) -> None:
    ended = story.ended[how]

    assert ended.code == 130
    assert f"{sum(ROWS) - ended.said_rows:,} are left".replace(",", " ") in ended.err
    assert "the same command goes on from there" in ended.err
    assert "Traceback" not in ended.err
    assert "error" not in ended.err


@pytest.mark.parametrize("how", _WAYS)
def test_what_it_says_is_there_once(how: str, story: Story) -> None:
    ended = story.ended[how]

    assert len(ended.rows) == len(set(ended.rows)) == ended.said_rows < sum(ROWS)


@pytest.mark.parametrize("how", _GRACEFUL)
def test_what_was_in_flight_is_finished_and_committed(how: str, story: Story) -> None:
    ended = story.ended[how]

    assert re.search(
        r"finishing (\d+ requests|what is) in flight, at most 30 s; Ctrl-C again", ended.err
    )
    assert ended.after > ended.before
    assert ended.seconds < 30  # which is all the time there is


def test_who_asked_is_said(story: Story) -> None:
    assert "stopping: finishing" in story.ended["Ctrl-C"].err
    assert "stopping, as SIGTERM asks: finishing" in story.ended["SIGTERM"].err
    assert "stopping, as rackmill stop asks: finishing" in story.ended["cancel"].err


@pytest.mark.parametrize("how", _WAYS)
def test_nothing_of_it_lives_on(how: str, story: Story) -> None:
    assert story.ended[how].left == []


def test_a_second_run_is_told_of_the_first(story: Story) -> None:
    assert story.second.code == 1
    assert story.second.json["exit_code"] == story.second.code
    assert re.search(r"another run works on out: process \d+ on \S+, begun", story.second.err)
    assert "of 3 200 rows are committed" in story.second.err
    assert "rackmill stop out" in story.second.err


def test_a_fresh_start_does_not_take_the_output_from_a_run(story: Story) -> None:
    assert story.fresh.code == 1
    assert "another run works on out" in story.fresh.err
    before, after = story.files
    assert before == after
    assert before


def test_cancel_waits_and_says_what_came_of_it(story: Story) -> None:
    facts = story.cancelled.json

    assert story.cancelled.code == 0
    assert (facts["was_alive"], facts["state"]) == (True, "stopped")
    assert facts["rows_done"] == story.ended["cancel"].said_rows
    assert facts["rows_left"] == sum(ROWS) - facts["rows_done"]


def test_cancel_says_so_where_nothing_works(story: Story) -> None:
    assert story.idle.code == 0
    assert (story.idle.json["was_alive"], story.idle.json["state"]) == (False, "stopped")


def test_a_run_whose_driver_was_killed_leaves_nothing_in_a_ray_that_stays(story: Story) -> None:
    assert story.killed_left == []


def test_the_job_can_still_be_finished(story: Story, read_output) -> None:
    assert story.facts["rows"] == story.facts["succeeded"] == sum(ROWS)
    assert story.facts["reused"] >= story.ended["cancel"].said_rows
    assert read_output(story.output)["id"].to_pylist() == list(range(sum(ROWS)))


def test_the_record_of_the_last_run_is_kept_alone(story: Story) -> None:
    runs = read_runs(open_storage(str(story.output)))

    assert [(run.state, run.rows_done) for run in runs] == [("ended", sum(ROWS))]
    assert len(list((story.output / RUNS).iterdir())) == 1
    assert not (story.output / CANCEL).exists()
    json.loads((story.output / "_rackmill/summary.json").read_text())
