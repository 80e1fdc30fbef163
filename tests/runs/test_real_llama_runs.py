"""A run over a llama-server that rackmill starts, in which it is killed, and then its worker; the
same rows by vLLM on the same weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
import yaml

from tests.support.processes import Finished, Launcher, Started
from tests.support.servers import built_llama, demo

pytestmark = [pytest.mark.engine, pytest.mark.ray, pytest.mark.long]

_ROWS = 96


@dataclass(frozen=True)
class Story:
    """A run whose llama-server is killed after its first unit, and whose worker is after another.

    ``outlived``: whether its llama-server was there still some seconds after the worker's death;
    ``left``: processes after the run's end."""

    finished: Finished
    table: pa.Table
    outlived: bool
    left: list[str]


def _start(folder: Path, launcher: Launcher, engine: dict[str, Any], **changes: Any) -> Started:
    made = demo(folder, _ROWS, engine, resources={"workers": 1}, **changes)
    (folder / "job.yaml").write_text(yaml.safe_dump(made))
    return launcher.start("run", "job.yaml", "--json", cwd=folder)


def _llamas(run: Started) -> list[psutil.Process]:
    return [p for p in run.processes() if p.name() == "llama-server"]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, launcher, read_output) -> Story:
    folder = tmp_path_factory.mktemp("llama")
    engine = {"kind": "llama.cpp", "server": str(built_llama()), "max_model_len": 1024}
    run = _start(folder, launcher, engine)

    def units() -> int:
        return len(list((folder / "out").glob("[!.]*.parquet")))

    run.wait_until(lambda: units() > 0, "the first unit was done")
    [llama] = _llamas(run)
    llama.kill()
    before = units()
    run.wait_until(lambda: units() > before + 1 and bool(_llamas(run)), "it went on")
    [llama] = _llamas(run)
    [worker] = run.workers()
    worker.kill()
    _, alive = psutil.wait_procs([llama], 10)
    finished = run.wait()
    return Story(finished, read_output(folder / "out"), bool(alive), run.gone(30))


def test_no_row_is_lost_or_doubled(story: Story) -> None:
    assert story.finished.code == 0, story.finished.err
    assert story.finished.json["rows"] == story.finished.json["succeeded"] == _ROWS
    assert len(story.table) == _ROWS
    assert story.table["error"].null_count == _ROWS


def test_a_llama_server_ends_with_its_worker_however_that_ended(story: Story) -> None:
    assert not story.outlived
    assert story.left == []


def test_it_is_as_sure_as_vllm_is_of_the_same_weights(
    story: Story, tmp_path: Path, launcher, read_output
) -> None:
    """vLLM has what the file's 4-bit codes stand for, in bf16; llama.cpp rounds what goes into its
    layers to 8 bits, so that it differs a little."""
    ended = _start(tmp_path, launcher, {}, model="gemma-3-270m-bf16").wait()
    assert ended.code == 0, ended.err
    vllm = read_output(tmp_path / "out").to_pydict()
    llama = story.table.to_pydict()
    apart = [
        abs((a if same else 1 - a) - b)
        for a, b, same in zip(
            llama["confidence"],
            vllm["confidence"],
            [a == b for a, b in zip(llama["label"], vllm["label"], strict=True)],
            strict=True,
        )
    ]

    assert sum(apart) / _ROWS < 0.05
    assert sum(one > 0.2 for one in apart) <= _ROWS // 20
