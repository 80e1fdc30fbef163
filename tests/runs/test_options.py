"""What the options of `rackmill run` do, on a Ray that was there before (--address)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.samples import write_model

pytestmark = pytest.mark.ray

_JOB = """\
name: options
model: models/tiny
input: {path: rows.parquet}
prompt: "Continue: {text}"
sampling: {max_tokens: 8}
output: {path: out, keep: [id]}
engine: {kind: simulated}
"""
_ROWS = 200


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("options")
    texts = [None if i == 3 else f"tweet {i}" for i in range(_ROWS)]
    pq.write_table(pa.table({"id": range(_ROWS), "text": texts}), folder / "rows.parquet")
    write_model(folder / "models/tiny")
    path = folder / "job.yaml"
    path.write_text(_JOB)
    return path


@pytest.fixture(scope="module")
def run(launcher, shared_ray) -> Callable:
    def run(path: Path, *arguments: str):
        return launcher.run(
            "run",
            path.name,
            "--json",
            "--address",
            shared_ray.address,
            *arguments,
            cwd=path.parent,
            **shared_ray.environment,
        )

    return run


@pytest.fixture(scope="module")
def first_rows(run, job: Path):
    """A run of the first 150 rows, two units of which the first has an error row."""
    return run(job, "--rows", "150", "--output", "few")


def test_rows_takes_the_first_so_many_and_paths_are_relative_to_where_the_command_runs(
    first_rows, job: Path, read_output
) -> None:
    """Also for workers whose Ray was started elsewhere."""
    assert read_output(job.parent / "few")["id"].to_pylist() == list(range(150))


def test_the_command_exits_with_3_when_rows_failed(first_rows) -> None:
    assert first_rows.json["failed"] == 1
    assert first_rows.code == 3, first_rows.err


@pytest.fixture(scope="module")
def all_rows(run, job: Path, first_rows):
    """The same job without --rows on the same output."""
    return run(job, "--output", "few")


def test_a_joined_ray_lives_on(first_rows, all_rows) -> None:
    """The first run left it as the second one needs it."""
    assert all_rows.code == 3, all_rows.err


def test_a_trial_with_rows_is_continued(all_rows, job: Path, read_output) -> None:
    assert read_output(job.parent / "few")["id"].to_pylist() == list(range(_ROWS))
    assert 0 < all_rows.json["reused"] <= 150


def test_fewer_rows_than_are_there_are_refused(
    all_rows, job: Path, ask, monkeypatch: pytest.MonkeyPatch, read_output
) -> None:
    monkeypatch.chdir(job.parent)
    result = ask("run", job.name, "--rows", "10", "--output", "few")
    assert (result.code, result.out) == (2, "")
    assert "--fresh" in result.err
    assert len(read_output(job.parent / "few")) == _ROWS


@pytest.fixture(scope="module")
def fresh(run, job: Path, all_rows):
    """The same output, started over with other settings."""
    arguments = ("--fresh", "--set", "sampling.max_tokens=4", "--workers", "1")
    return run(job, "--output", "few", *arguments)


def test_fresh_starts_over(fresh, job: Path, read_output) -> None:
    assert fresh.json["reused"] == 0
    assert read_output(job.parent / "few")["id"].to_pylist() == list(range(_ROWS))


def test_set_reaches_the_workers(fresh, job: Path, read_output) -> None:
    lengths = read_output(job.parent / "few")["completion_tokens"].to_pylist()
    assert max(lengths) <= 4
