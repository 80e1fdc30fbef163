"""An engine in several parts, each with its share of every layer, as on a slot of several cards:
here the parts are processes on this machine's cores. The real vLLM and the real model."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from pipeline.engine.gpu.usable import offer
from pipeline.engine.machine.host import cores
from tests.runs.test_two_real_engines import DEMO, write_clear_tweets
from tests.support.processes import Started

pytestmark = [
    pytest.mark.engine,
    pytest.mark.alone,
    pytest.mark.ray,
    pytest.mark.long,
    pytest.mark.skipif(
        bool(offer().gpus) or len(cores()) < 2, reason="needs two cores, and no GPU"
    ),
]

_ROWS = 200
_PATIENCE_SECONDS = 500.0
# vLLM gives the other part, which waits for the dead one amid a layer, nine seconds to end
_LAST_SECONDS = 40.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("slot")
    write_clear_tweets(made / "rows", shards=2, rows=_ROWS)
    return made


def start(launcher, folder: Path, output: str, parts: int) -> Started:
    return launcher.start(
        *("run", DEMO, "--json", "--output", output),
        *("--set", "input.path=rows/*.parquet"),
        *("--set", "output.keep=[id, text, sentiment]"),
        *("--set", "label.gold=sentiment"),
        *("--set", "duplicates.answer_once=false"),
        *("--set", f"engine.tensor_parallel_size={parts}"),
        cwd=folder,
    )


@pytest.fixture(scope="module")
def alone(folder: Path, launcher, read_output) -> pa.Table:
    """What an engine in one part answers."""
    started = start(launcher, folder, "alone", 1)
    assert started.process.wait(_PATIENCE_SECONDS) == 0, started.output
    return read_output(folder / "alone")


def parts_of(started: Started) -> list[psutil.Process]:
    below = psutil.Process(started.process.pid).children(recursive=True)
    return [one for one in below if named(one).startswith("VLLM::Worker")]


def named(process: psutil.Process) -> str:
    try:
        return (process.cmdline() or [""])[0]
    except psutil.Error:
        return ""


@pytest.mark.parametrize("victim", ["a part", "the worker"])
def test_it_answers_as_one_engine_does_whichever_of_its_processes_dies(
    victim: str, folder: Path, launcher, alone: pa.Table, read_output
) -> None:
    output = victim.replace(" ", "-")
    started = start(launcher, folder, output, 2)
    started.wait_until(lambda: "ready after" in started.output, "an engine was ready")
    parts = parts_of(started)
    assert len(parts) == 2
    doomed = parts[1] if victim == "a part" else parts[0].parent()
    assert doomed is not None
    doomed.kill()
    killed = time.monotonic()
    _, alive = psutil.wait_procs(parts, timeout=_LAST_SECONDS)
    assert not alive, f"{alive} outlived {victim} by {time.monotonic() - killed:.0f} s"

    assert started.process.wait(_PATIENCE_SECONDS) == 0, started.output
    table = read_output(folder / output)
    assert "is replaced" in started.output
    assert table["id"].to_pylist() == list(range(2 * _ROWS))
    assert table["label"].to_pylist() == alone["label"].to_pylist()
    for mine, other in zip(table["confidence"], alone["confidence"], strict=True):
        assert mine.as_py() == pytest.approx(other.as_py(), abs=0.03)
