"""Stopped while a model comes from a hub: at once; what has arrived is kept and fetched no more."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.runs.terminal import Terminal
from tests.support.hub import Hub
from tests.support.processes import Finished
from tests.support.ray_head import SharedRay
from tests.support.samples import write_model

pytestmark = pytest.mark.ray

_REPOSITORY = "someone/gemma-3-tiny-it"
_WEIGHTS = "model.safetensors"
_CHUNK = 10 << 20  # huggingface_hub writes so many bytes at a time
_ROWS = 40
_JOB = f"""\
name: fetching
model: hf://{_REPOSITORY}
input: {{path: rows}}
prompt: "Continue: {{text}}"
sampling: {{max_tokens: 4}}
output: {{path: out, keep: [id]}}
engine: {{kind: simulated}}
"""
_RUN = ("run", "job.yaml")
_ADD = ("model", "add", f"hf://{_REPOSITORY}")


@dataclass(frozen=True)
class Ended:
    """A command that was stopped while the hub kept it waiting."""

    code: int
    err: str
    seconds: float  # from the wish to the end
    left: list[str]  # its processes that lived on
    arrived: int  # bytes of the weights that are kept
    asked: str  # the range of them that it asked for


@dataclass(frozen=True)
class Story:
    """One download, stopped again and again, each time in another way, until a run ends it."""

    ended: dict[str, Ended]
    finished: Finished
    asked: str  # by that run, of the weights
    rows: list[int]
    downloads: list[str]  # what lies in the store's folder of them afterwards


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory,
    launcher,
    shared_ray: SharedRay,
    write_shards,
    read_output,
) -> Story:
    folder = tmp_path_factory.mktemp("fetching")
    made = write_model(folder / "made")
    save_file({"w": np.zeros(6 << 20, np.float32)}, made / _WEIGHTS)
    write_shards(folder / "rows", _ROWS)
    (folder / "job.yaml").write_text(_JOB)
    downloads = folder / "home/downloads"
    ended: dict[str, Ended] = {}

    with Hub() as hub:
        hub.put(_REPOSITORY, {path.name: path.read_bytes() for path in made.iterdir()})
        hub.hold_at = {_WEIGHTS: _CHUNK + (2 << 20)}
        environment = {
            "HF_ENDPOINT": hub.url,
            "HF_HUB_CACHE": str(folder / "cache"),
            "RACKMILL_HOME": str(folder / "home"),
        }

        def fetching() -> bool:
            """What came was written, and nothing more comes."""
            sizes = [path.stat().st_size for path in downloads.rglob(f"{_WEIGHTS}.partial")]
            return hub.held.is_set() and sizes == [_CHUNK]

        def note(how: str, code: int, err: str, seconds: float, left: list[str]) -> None:
            [partial] = downloads.rglob(f"{_WEIGHTS}.partial")
            arrived, asked = partial.stat().st_size, hub.ranges(_WEIGHTS)[-1]
            ended[how] = Ended(code, err, seconds, left, arrived, asked)
            hub.held.clear()

        def press(how: str, command: tuple[str, ...]) -> None:
            terminal = Terminal(*command, cwd=folder, environment=environment)
            try:
                terminal.wait_until(fetching, "the hub kept it waiting")
                asked = time.monotonic()
                terminal.press_ctrl_c()
                code = terminal.wait()
                seconds = time.monotonic() - asked
                note(how, code, terminal.screen, seconds, terminal.gone(15))
            finally:
                terminal.close()

        def terminate(how: str, command: tuple[str, ...]) -> None:
            started = launcher.start(*command, cwd=folder, **environment)
            started.wait_until(fetching, "the hub kept it waiting")
            asked = time.monotonic()
            os.kill(started.process.pid, signal.SIGTERM)
            done = started.wait()
            seconds = time.monotonic() - asked
            note(how, done.code, done.err, seconds, started.gone(15))
            assert done.out == ""

        press("Ctrl-C", _RUN)
        terminate("SIGTERM", _RUN)
        press("add, Ctrl-C", _ADD)
        terminate("add, SIGTERM", _ADD)
        hub.hold_at.clear()
        finished = launcher.run(
            *(*_RUN, "--json", "--address", shared_ray.address),
            cwd=folder,
            **environment,
            **shared_ray.environment,
        )
        assert finished.code == 0, finished.err
        rows = read_output(folder / "out")["id"].to_pylist()
        left = [path.name for path in downloads.iterdir()]
        return Story(ended, finished, hub.ranges(_WEIGHTS)[-1], rows, left)


_WAYS = ["Ctrl-C", "SIGTERM", "add, Ctrl-C", "add, SIGTERM"]
each_way = pytest.mark.parametrize("how", _WAYS)


@each_way
def test_it_ends_at_once_and_says_how_to_go_on(how: str, story: Story) -> None:
    ended = story.ended[how]

    assert ended.code == 130
    assert ended.seconds < 5
    assert "the same command goes on from there" in " ".join(ended.err.split())
    assert "error" not in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_a_run_says_that_what_has_arrived_stays(how: str, story: Story) -> None:
    assert "stopped before any engine was started" in story.ended[how].err
    assert "what was fetched or converted of the model stays" in story.ended[how].err


@each_way
def test_nothing_of_it_lives_on(how: str, story: Story) -> None:
    assert story.ended[how].left == []


@each_way
def test_what_has_arrived_is_kept_and_not_asked_for_again(how: str, story: Story) -> None:
    first = how == _WAYS[0]

    assert story.ended[how].arrived == _CHUNK
    assert story.ended[how].asked == ("" if first else f"bytes={_CHUNK}-")


def test_the_same_command_fetches_the_rest_and_does_the_job(story: Story) -> None:
    assert story.asked == f"bytes={_CHUNK}-"
    assert story.finished.json["rows"] == story.finished.json["succeeded"] == _ROWS
    assert story.rows == list(range(_ROWS))
    assert story.downloads == []
