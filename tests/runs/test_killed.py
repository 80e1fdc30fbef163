"""kill -9 at any moment: another run finishes the job with every row exactly once. Of a run whose
driver is killed, and of the Ray that it started, soon nothing is left."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.runs.slow_job import still_alive, workers_on
from tests.support.ray_head import SharedRay
from tests.support.samples import write_model

pytestmark = pytest.mark.ray

# slow enough to be interrupted: about 80 requests at once, some 20 steps each
_JOB = """\
name: slow
model: models/tiny
input: {path: rows/*.parquet}
prompt: "Continue: {text}"
sampling: {max_tokens: 32}
output: {path: out, keep: [id]}
engine: {kind: simulated, simulated: {step_seconds: STEP, num_blocks: 1024}}
resources: {workers: WORKERS}
"""
_ROWS = (900, 700)
_SEED = 20260127
_GONE_SECONDS = 60.0  # five are usual, on a machine that does nothing else

Files = dict[str, tuple[bytes, int]]


def _prepare(folder: Path, write_shards, *, step: float = 0.04, workers: int = 1) -> Path:
    write_shards(folder / "rows", *_ROWS)
    write_model(folder / "models/tiny")
    job = _JOB.replace("STEP", str(step)).replace("WORKERS", str(workers))
    (folder / "job.yaml").write_text(job)
    return folder / "out"


def _published(output: Path) -> int:
    """Units whose rows a reader sees."""
    return len(list(output.glob("[!.]*.parquet")))


@dataclass(frozen=True)
class Story:
    """Two interrupted runs and the one that came to the end, on the same output."""

    output: Path
    units: int
    after_kill: list[Files]  # the published files after each kill
    rows_after_kill: list[list[int]]  # the ids that a reader saw then
    begun: int  # processes of the first run, before its driver was killed
    left: list[str]  # those that lived on
    facts: dict


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory, launcher, write_shards, read_output, files_of
) -> Story:
    """First the driver alone is killed and the job run again at once, while orphans may still
    work; then everything is killed, as by a power cut; then the job is run to its end."""
    folder = tmp_path_factory.mktemp("killed")
    output = _prepare(folder, write_shards)
    dice = random.Random(_SEED)
    files, rows = [], []

    def note() -> None:
        files.append(files_of(output))
        rows.append(read_output(output)["id"].to_pylist() if files[-1] else [])

    first = launcher.start("run", "job.yaml", cwd=folder)
    wanted = dice.randint(1, 3)
    first.wait_until(lambda: _published(output) >= wanted, f"{wanted} units")
    begun = len(first.processes())
    first.kill_driver()
    note()

    second = launcher.start("run", "job.yaml", cwd=folder)
    wanted = _published(output) + dice.randint(1, 3)
    second.wait_until(lambda: _published(output) >= wanted, f"{wanted} units")
    second.kill_all()
    left = first.gone(_GONE_SECONDS)
    note()

    finished = launcher.run("run", "job.yaml", "--json", cwd=folder)
    assert finished.code == 0, finished.err
    return Story(output, _published(output), files, rows, begun, left, finished.json)


def test_the_job_was_cut_off_in_its_middle(story: Story) -> None:
    """What makes the other tests here worth something."""
    assert all(0 < len(files) < story.units for files in story.after_kill)


def test_after_all_that_every_row_is_there_once_and_in_order(story: Story, read_output) -> None:
    assert read_output(story.output)["id"].to_pylist() == list(range(sum(_ROWS)))


def test_a_reader_never_sees_a_row_twice(story: Story) -> None:
    assert all(len(set(rows)) == len(rows) for rows in story.rows_after_kill)


@pytest.mark.parametrize("kill", [0, 1])
def test_what_was_committed_is_not_computed_again(kill: int, story: Story, files_of) -> None:
    now = files_of(story.output)
    for name, before in story.after_kill[kill].items():
        assert now[name] == before


def test_the_last_run_says_how_much_it_found(story: Story) -> None:
    found = len(story.rows_after_kill[-1])
    assert 0 < found <= story.facts["reused"] < sum(_ROWS)


def test_nothing_is_left_of_a_run_whose_driver_was_killed(story: Story) -> None:
    assert story.begun > 3  # Ray's own among them
    assert story.left == []


def test_the_counts_are_over_the_whole_dataset(story: Story) -> None:
    assert (story.facts["rows"], story.facts["succeeded"]) == (sum(_ROWS), sum(_ROWS))


def test_the_summary_and_the_marker_are_those_of_a_whole_dataset(story: Story) -> None:
    summary = json.loads((story.output / "_rackmill/summary.json").read_text())
    assert summary["rows"] == sum(_ROWS)
    assert (story.output / "_SUCCESS").exists()


def test_nothing_but_the_dataset_is_left(story: Story) -> None:
    assert list((story.output / "_rackmill/attempts").glob("*")) == []
    assert len(list(story.output.glob("*.parquet"))) == story.units


@dataclass(frozen=True)
class Loss:
    """A run that lost a worker's process on its way."""

    output: Path
    code: int
    out: str
    err: str
    left: list[str]


# long: chaos/test_kills kills a worker too, and its run has every row
@pytest.fixture(scope="module", params=[pytest.param("worker", marks=pytest.mark.long)])
def loss(
    tmp_path_factory: pytest.TempPathFactory, launcher, shared_ray: SharedRay, write_shards
) -> Loss:
    folder = tmp_path_factory.mktemp("loss")
    # on a busy machine the second engine may be there half a minute after the first
    output = _prepare(folder, write_shards, step=0.15, workers=2)
    assert still_alive(workers_on(shared_ray), 60) == []  # of tests before
    command = ("run", "job.yaml", "--json", "--address", shared_ray.address)
    started = launcher.start(*command, cwd=folder, **shared_ray.environment)
    workers: list[psutil.Process] = []

    def both_at_work() -> bool:
        workers[:] = workers_on(shared_ray)
        return len(workers) == 2 and _published(output) >= 1

    started.wait_until(both_at_work, "a unit was done and both workers were there")
    random.Random(_SEED).choice(workers).kill()
    finished = started.wait()
    left = started.gone(20) + [str(p) for p in still_alive(workers_on(shared_ray), 20)]
    return Loss(output, finished.code, finished.out, finished.err, left)


def test_a_run_that_loses_a_worker_still_finishes(loss: Loss) -> None:
    assert loss.code == 0, loss.err


def test_the_lost_workers_rows_are_there_once(loss: Loss, read_output) -> None:
    assert read_output(loss.output)["id"].to_pylist() == list(range(sum(_ROWS)))


def test_the_loss_is_said(loss: Loss) -> None:
    assert "stopped and is replaced" in loss.err
    assert "Traceback" not in loss.err


def test_stdout_is_still_one_json_object(loss: Loss) -> None:
    """Whatever Ray has to say about the loss goes elsewhere."""
    assert json.loads(loss.out)["rows"] == sum(_ROWS)


def test_the_counts_are_over_rows_not_over_attempts(loss: Loss) -> None:
    facts = json.loads((loss.output / "_rackmill/summary.json").read_text())
    assert (facts["rows"], facts["succeeded"], facts["reused"]) == (sum(_ROWS), sum(_ROWS), 0)


def test_no_process_outlives_a_run_that_lost_one(loss: Loss) -> None:
    assert loss.left == []
