"""Stopped while vLLM is loaded: within seconds, and neither engine nor Ray lives on."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.runs.terminal import Terminal
from tests.support.processes import Finished, Started, called

pytestmark = [pytest.mark.engine, pytest.mark.ray, pytest.mark.long]

_ROWS = 16
_JOB = """\
name: loading
model: gemma-3-270m
input: {path: rows}
prompt: "Continue: {text}"
sampling: {max_tokens: 4}
output: {path: out, keep: [id]}
engine: {max_num_seqs: 16, max_model_len: 256, kv_cache_memory_bytes: 134217728}
"""


@dataclass(frozen=True)
class Ended:
    """A run that was stopped while its engine was loaded."""

    code: int
    err: str
    seconds: float  # from the wish to the end
    left: list[str]  # its processes that lived on


@dataclass(frozen=True)
class Story:
    """One job, stopped twice, and the run that did it."""

    ended: dict[str, Ended]
    finished: Finished
    rows: list[int]


def _has_a_worker(run: Started | Terminal) -> bool:
    return bool(called(run.processes(), "WorkerActor.work"))


def _builds_an_engine(run: Started | Terminal) -> bool:
    """vLLM's own compiled code is there, so its Python is imported, which takes longest."""
    for worker in called(run.processes(), "WorkerActor.work"):
        try:
            if any("/vllm/" in place.path for place in worker.memory_maps()):
                return True
        except (psutil.Error, OSError):
            continue
    return False


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, launcher, write_shards, read_output) -> Story:
    folder: Path = tmp_path_factory.mktemp("loading")
    write_shards(folder / "rows", _ROWS)
    (folder / "job.yaml").write_text(_JOB)
    ended: dict[str, Ended] = {}

    terminal = Terminal("run", "job.yaml", cwd=folder)
    try:
        terminal.wait_until(lambda: _builds_an_engine(terminal), "vLLM was imported")
        asked = time.monotonic()
        terminal.press_ctrl_c()
        code = terminal.wait()
        seconds = time.monotonic() - asked
        ended["Ctrl-C"] = Ended(code, terminal.screen, seconds, terminal.gone(5))
    finally:
        terminal.close()

    started = launcher.start("run", "job.yaml", "--json", cwd=folder)
    started.wait_until(lambda: _has_a_worker(started), "a worker was there")
    asked = time.monotonic()
    os.kill(started.process.pid, signal.SIGTERM)
    done = started.wait()
    assert done.json["exit_code"] == done.code
    ended["SIGTERM"] = Ended(done.code, done.err, time.monotonic() - asked, started.gone(5))

    finished = launcher.run("run", "job.yaml", "--json", cwd=folder)
    assert finished.code == 0, finished.err
    return Story(ended, finished, read_output(folder / "out")["id"].to_pylist())


each_way = pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])


@each_way
def test_it_ends_within_seconds_and_says_how_to_go_on(how: str, story: Story) -> None:
    ended = story.ended[how]

    assert ended.code == 130
    assert ended.seconds < 10
    assert "nothing is in flight" in ended.err
    assert f"stopped: 0 of {_ROWS} rows are committed, {_ROWS} are left" in ended.err
    assert "the same command goes on from there" in ended.err
    assert "error" not in ended.err
    assert "Traceback" not in ended.err


@each_way
def test_nothing_of_it_lives_on(how: str, story: Story) -> None:
    assert story.ended[how].left == []


def test_the_same_command_does_the_job(story: Story) -> None:
    assert story.finished.json["rows"] == story.finished.json["succeeded"] == _ROWS
    assert story.rows == list(range(_ROWS))
