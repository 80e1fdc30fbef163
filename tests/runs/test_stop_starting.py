"""Stopped while Ray starts, at several moments of it: at once, and nothing of Ray lives on."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from pipeline.output.commit.records import RUNS
from tests.runs.slow_job import prepare
from tests.runs.terminal import Terminal
from tests.support.processes import Finished, Started

pytestmark = pytest.mark.ray

_ROWS = 40
_GONE_SECONDS = 1.0  # Ray's agents alone need two to see that their parent is gone


@dataclass(frozen=True)
class Ended:
    """A run that was stopped before it had a Ray."""

    code: int
    err: str
    seconds: float  # from the wish to the end
    left: list[str]  # its processes that lived on


@dataclass(frozen=True)
class Story:
    """One job, stopped at every moment, and the run that did it."""

    ended: dict[str, Ended]
    finished: Finished
    rows: list[int]


def _runs(name: str) -> Callable[[Started | Terminal], bool]:
    """Whether a program of that name runs, or one that is told such a file."""

    def look(run: Started | Terminal) -> bool:
        for process in run.processes():
            try:
                if any(name in Path(word).parts for word in process.cmdline()):
                    return True
            except psutil.Error:
                continue
        return False

    return look


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, launcher, write_shards, read_output) -> Story:
    folder = tmp_path_factory.mktemp("starting")
    output = prepare(folder, write_shards, step=0.0, workers=1, rows=(_ROWS,))
    ended: dict[str, Ended] = {}

    def claimed(_: Started | Terminal) -> bool:
        return any((output / RUNS).glob("*"))

    def press(moment: str, there: Callable[[Started | Terminal], bool]) -> None:
        terminal = Terminal("run", "job.yaml", cwd=folder)
        try:
            terminal.wait_until(lambda: there(terminal), moment)
            asked = time.monotonic()
            terminal.press_ctrl_c()
            code = terminal.wait()
            seconds = time.monotonic() - asked
            left = terminal.gone(_GONE_SECONDS)
            ended[moment] = Ended(code, terminal.screen, seconds, left)
        finally:
            terminal.close()

    def terminate(moment: str, there: Callable[[Started | Terminal], bool]) -> None:
        started = launcher.start("run", "job.yaml", "--json", cwd=folder)
        started.wait_until(lambda: there(started), moment)
        asked = time.monotonic()
        os.kill(started.process.pid, signal.SIGTERM)
        done = started.wait()
        seconds = time.monotonic() - asked
        assert done.out == "" or json.loads(done.out)["exit_code"] == done.code
        ended[moment] = Ended(done.code, done.err, seconds, started.gone(_GONE_SECONDS))

    press("before it", claimed)
    terminate("its store", _runs("gcs_server"))
    press("its node", _runs("raylet"))
    terminate("its agents", _runs("agent"))
    finished = launcher.run("run", "job.yaml", "--json", cwd=folder)
    assert finished.code == 0, finished.err
    return Story(ended, finished, read_output(output)["id"].to_pylist())


each_moment = pytest.mark.parametrize(
    "moment", ["before it", "its store", "its node", "its agents"]
)


@each_moment
def test_it_ends_at_once_and_says_how_to_go_on(moment: str, story: Story) -> None:
    ended = story.ended[moment]

    assert ended.code == 130
    assert ended.seconds < 10
    assert f"stopped: 0 of {_ROWS} rows are committed, {_ROWS} are left" in ended.err
    assert "the same command goes on from there" in ended.err
    assert "error" not in ended.err
    assert "Traceback" not in ended.err


@each_moment
def test_nothing_of_ray_lives_on(moment: str, story: Story) -> None:
    assert story.ended[moment].left == []


def test_the_same_command_does_the_job(story: Story) -> None:
    assert story.finished.json["rows"] == story.finished.json["succeeded"] == _ROWS
    assert story.rows == list(range(_ROWS))
