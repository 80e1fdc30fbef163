"""Engines that hang, find too little memory or never start, through the real command: the job ends
with every row, and says aloud what it went through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.ray_head import SharedRay
from tests.support.samples import write_model

pytestmark = pytest.mark.ray

_ROWS = 400
_STUCK = 222
_JOB = """\
name: faults
model: models/tiny
input: {path: rows.parquet}
prompt: "Continue: {text}"
sampling: {max_tokens: 32}
output: {path: out, keep: [id]}
engine: {kind: simulated, simulated: {step_seconds: 0.005, num_blocks: 1024}}
resources: {workers: 2}
"""


def _prepare(folder: Path) -> None:
    texts = [f"text {row}" + (" stuck" if row == _STUCK else "") for row in range(_ROWS)]
    pq.write_table(pa.table({"id": range(_ROWS), "text": texts}), folder / "rows.parquet")
    write_model(folder / "models/tiny")
    (folder / "job.yaml").write_text(_JOB)


@dataclass(frozen=True)
class Story:
    code: int
    said: str
    facts: Any
    rows: list[dict[str, Any]]
    left: list[str]
    folder: Path
    files: str  # of the log, as they lie beside the output


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, launcher, read_output) -> Story:
    """One of two engines never starts, the other is loaded for too many requests at first, and
    one row makes it hang."""
    folder = tmp_path_factory.mktemp("faults")
    _prepare(folder)
    faults = {"broken": "[1]", "hang_on": "stuck", "load_out_of_memory_above": 64}
    settings = [f"engine.simulated.faults.{name}={value}" for name, value in faults.items()]
    settings += ["faults.restarts=1", "faults.step_timeout_seconds=2"]
    options = [word for setting in settings for word in ("--set", setting)]
    started = launcher.start("run", "job.yaml", "--json", *options, cwd=folder)
    finished = started.wait()
    assert finished.code in (0, 3), finished.err
    rows = read_output(folder / "out").to_pylist()
    left = started.gone(20)
    files = "".join(p.read_text() for p in sorted((folder / "out/_rackmill/logs").iterdir()))
    return Story(finished.code, finished.err, finished.json, rows, left, folder, files)


@pytest.fixture
def log(story: Story, ask, monkeypatch) -> Callable[[str], str]:
    """What `rackmill logs` shows with an option."""
    monkeypatch.chdir(story.folder)

    def shown(option: str) -> str:
        told = ask("logs", "out", option)
        assert (told.code, told.err) == (0, "")
        return str(told.out)

    return shown


def test_every_row_is_there_once_and_in_order(story: Story) -> None:
    assert [row["id"] for row in story.rows] == list(range(_ROWS))


def test_the_row_that_hangs_its_engine_is_the_only_error_row(story: Story) -> None:
    [row] = [row for row in story.rows if row["error"]]

    assert (story.code, story.facts["failed"], row["id"]) == (3, 1, _STUCK)
    error = row["error"]
    assert error["type"] == "EngineFailure"
    assert error["attempts"] >= 3
    died = f"its engine died {error['attempts']} times with this row"
    assert error["message"] == f"{died}: the engine made no step for 2.0 s"


def test_a_hang_is_said_and_the_engine_replaced(story: Story) -> None:
    assert "stopped and is replaced: the engine made no step for 2.0 s" in story.said


def test_an_engine_that_found_too_little_memory_is_loaded_for_less(story: Story) -> None:
    assert "worker-0: too little memory, on with 64 requests at once instead of 256" in story.said
    assert {engine["max_num_seqs"] for engine in story.facts["engines"]} == {64}


def test_a_card_whose_engine_never_starts_is_set_aside(story: Story) -> None:
    assert "worker-1.1: set aside after 2 engines that got nowhere, 1 engine left" in story.said
    assert "the simulated engine is broken" in story.said


def test_no_traceback_and_nothing_of_rays_reaches_the_user(story: Story) -> None:
    assert "Traceback" not in story.said
    assert "raylet" not in story.said


def test_no_process_is_left(story: Story) -> None:
    assert story.left == []


def test_the_log_beside_the_output_tells_the_run_from_its_beginning_to_its_end(log) -> None:
    lines = [line for line in log("--level=debug").splitlines() if not line.startswith("  ")]
    assert "run of faults begins: process" in lines[0]
    assert lines[-1].endswith("run of faults is done")
    assert [line[:23] for line in lines] == sorted(line[:23] for line in lines)


def test_the_log_has_the_lines_of_all_processes(log) -> None:
    told = log("--level=debug")
    assert "worker-0.1 worker.worker: engine loaded in" in told
    assert "worker.writer [" in told
    assert "driver.coordinator.coordinator: granted rows" in told
    assert "driver cluster.ray_cluster: started a Ray of its own; what it" in told


def test_the_log_of_one_worker_is_of_it_alone(log) -> None:
    names = {line.split()[3] for line in log("--worker=worker-0.1").splitlines()}
    assert names == {"worker-0.1"}


def test_the_log_names_what_engines_died_of(log) -> None:
    told = log("--level=warning")
    hangs = "worker.engine_loop.watchdog: the engine hangs: the engine made no step for 2.0 s"
    assert hangs in told
    assert "was lost: the engine made no step for 2.0 s" in told
    assert "too little memory on" in told
    assert "is quarantined after" in told
    assert " INFO " not in told


def test_no_text_of_a_row_is_in_the_log(story: Story) -> None:
    assert story.files
    assert "Continue" not in story.files
    assert [row for row in range(_ROWS) if f"text {row} " in story.files] == []
    answers = [row["completion"] for row in story.rows if row["completion"]]
    assert [text for text in answers if len(text) > 8 and text in story.files] == []


def test_a_job_without_any_card_left_says_why(
    tmp_path: Path, launcher, shared_ray: SharedRay
) -> None:
    _prepare(tmp_path)
    settings = ("engine.simulated.faults.broken=[0]", "faults.restarts=0", "resources.workers=1")
    options = [word for setting in settings for word in ("--set", setting)]
    command = ("run", "job.yaml", "--address", shared_ray.address, *options)
    finished = launcher.run(*command, cwd=tmp_path, **shared_ray.environment)

    assert finished.code == 1
    assert "error: no engine is left: worker-0 stopped: the simulated engine is broken" in (
        finished.err
    )
    assert "what led to it: rackmill logs out" in finished.err
    assert "its output is in /" in finished.err
