"""A worker that is slow all of a sudden: others take over what it has not begun with."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.runs.slow_job import still_alive, workers_on
from tests.support.ray_head import SharedRay
from tests.support.samples import write_model

# long: who takes over what is decided in dispatch/work_stealing: dispatch/test_dispatcher
pytestmark = [pytest.mark.ray, pytest.mark.long]

# about 20 requests at once, some 20 steps each: either worker alone would need half a minute
_JOB = """\
name: uneven
model: models/tiny
input: {path: rows/*.parquet}
prompt: "Continue: {text}"
sampling: {max_tokens: 32}
output: {path: out, keep: [id]}
engine: {kind: simulated, simulated: {step_seconds: 0.02, num_blocks: 512}}
resources: {workers: 2}
"""
_ROWS = (1500, 900)


@contextmanager
def _slowed(process: psutil.Process) -> Iterator[None]:
    """The process gets a twentieth of its time: stopped and continued, over and over."""
    over = threading.Event()

    def slow() -> None:
        with suppress(psutil.NoSuchProcess):
            while not over.is_set():
                process.suspend()
                over.wait(0.475)
                process.resume()
                over.wait(0.025)

    thread = threading.Thread(target=slow)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@dataclass(frozen=True)
class Uneven:
    """A run in which one of two workers was slowed down, after its first rows."""

    output: Path
    code: int
    err: str


@pytest.fixture(scope="module")
def uneven(
    tmp_path_factory: pytest.TempPathFactory, launcher, shared_ray: SharedRay, write_shards
) -> Uneven:
    folder = tmp_path_factory.mktemp("uneven")
    write_shards(folder / "rows", *_ROWS)
    write_model(folder / "models/tiny")
    (folder / "job.yaml").write_text(_JOB)
    assert still_alive(workers_on(shared_ray), 60) == []  # of tests before
    command = ("run", "job.yaml", "--json", "--address", shared_ray.address)
    started = launcher.start(*command, cwd=folder, **shared_ray.environment)
    output = folder / "out"
    started.wait_until(
        lambda: len(workers_on(shared_ray)) == 2 and len(list(output.glob("[!.]*.parquet"))) >= 1,
        "a unit was done and both workers were there",
    )
    with _slowed(workers_on(shared_ray)[0]):
        finished = started.wait()
    return Uneven(output, finished.code, finished.err)


def test_the_run_ends_well(uneven: Uneven) -> None:
    assert uneven.code == 0, uneven.err
    assert "stopped" not in uneven.err


def test_every_row_is_there_once_and_in_input_order(uneven: Uneven, read_output) -> None:
    assert read_output(uneven.output)["id"].to_pylist() == list(range(sum(_ROWS)))


def test_rows_of_a_unit_that_was_begun_were_taken_over(uneven: Uneven) -> None:
    records = [json.loads(p.read_text()) for p in uneven.output.glob("_rackmill/commits/*.json")]
    cuts = [record for record in records if "cut" in record]

    assert cuts
    assert len(records) - len(cuts) == len(list(uneven.output.glob("*.parquet")))


def test_the_counts_are_over_rows(uneven: Uneven) -> None:
    facts = json.loads((uneven.output / "_rackmill/summary.json").read_text())
    assert (facts["rows"], facts["succeeded"], facts["reused"]) == (sum(_ROWS), sum(_ROWS), 0)


def test_a_second_run_finds_everything_done(uneven: Uneven, ask, monkeypatch) -> None:
    monkeypatch.chdir(uneven.output.parent)
    again = ask("run", "job.yaml", "--json")

    assert again.code == 0, again.err
    assert again.json["reused"] == sum(_ROWS)
