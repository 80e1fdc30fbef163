"""The real command on storage that fails: it comes to its end, or says why not and goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.in_process import check, job, prepare, run_here
from tests.runs.slow_job import actors_on, still_alive
from tests.support.processes import Finished, Launcher
from tests.support.ray_head import SharedRay
from tests.support.samples import write_model
from tests.support.storage_faults import VARIABLE, faults_everywhere

_JOB = """\
name: rows
model: models/tiny
input: {path: rows/*.parquet}
prompt: "Continue: {text}"
sampling: {max_tokens: 8}
output: {path: out, keep: [id]}
engine: {kind: simulated}
resources: {workers: 2}
"""
_ROWS = (900, 700)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_job_comes_to_its_end_where_a_third_of_the_calls_fail(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path)
    monkeypatch.setenv(VARIABLE, f"fail_one_in=6,lose_one_in=6,seed={seed}")
    run_here(job(tmp_path, str(tmp_path / "out")))
    monkeypatch.delenv(VARIABLE)

    check(str(tmp_path / "out"))


@pytest.fixture
def folder(tmp_path: Path, write_shards) -> Path:
    write_shards(tmp_path / "rows", *_ROWS)
    write_model(tmp_path / "models/tiny")
    (tmp_path / "job.yaml").write_text(_JOB)
    return tmp_path


def _run(launcher: Launcher, folder: Path, *options: str, **environment: str) -> Finished:
    return launcher.run("run", "job.yaml", "--json", *options, cwd=folder, **environment)


def _check(finished: Finished, folder: Path, read_output) -> None:
    assert finished.code == 0, finished.err
    assert finished.json["rows"] == sum(_ROWS)
    assert read_output(folder / "out")["id"].to_pylist() == list(range(sum(_ROWS)))


@pytest.mark.ray
@pytest.mark.long  # minutes; test_crash_points has every call in ordinary tests, in one process
def test_processes_that_die_at_storage_calls_are_made_good_on_slow_and_failing_storage(
    folder: Path, launcher: Launcher, read_output
) -> None:
    """The driver dies while it claims the folder; then whoever comes to the number, a worker
    mostly. The run that makes it good has to live with one call in five that fails."""
    counter = folder / "count"
    (folder / "code").mkdir()
    everywhere = faults_everywhere(folder / "code")
    for number in (6, 60):
        counter.unlink(missing_ok=True)
        faults = f"exit_at={number},counter={counter}"
        finished = _run(launcher, folder, **everywhere, **{VARIABLE: faults})
        assert counter.stat().st_size >= number
        assert "Traceback" not in finished.err

    faults = "fail_one_in=5,lose_one_in=20,delay=0.005,seed=3"
    finished = _run(launcher, folder, **everywhere, **{VARIABLE: faults})
    _check(finished, folder, read_output)


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """The output folder, on a disk of its own that is too small."""
    output = folder / "out"
    output.mkdir()
    if os.geteuid() != 0 or _mount("-t", "tmpfs", "-o", "size=96k", "none", str(output)):
        pytest.skip("may not mount a file system here")
    yield output
    subprocess.run(["umount", str(output)], check=True)


def _mount(*arguments: str) -> int:
    try:
        return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode
    except FileNotFoundError:
        return 1


@pytest.mark.ray
def test_a_full_disk_stops_a_run_that_goes_on_when_there_is_room(
    small_disk: Path, folder: Path, launcher: Launcher, shared_ray: SharedRay, read_output
) -> None:
    def run() -> Finished:
        join = ("--address", shared_ray.address, "--workers", "1")
        ended = _run(launcher, folder, *join, **shared_ray.environment)
        # what writes its log there closes it a little later: only then can the disk be changed
        assert still_alive(actors_on(shared_ray), 60) == []
        return ended

    stopped = run()
    assert stopped.code == 1, stopped.err
    assert "No space left on device" in stopped.err
    assert "make room there" in stopped.err
    assert "Traceback" not in stopped.err
    committed = len(list(small_disk.glob("_rackmill/commits/[!.]*.json")))
    assert committed > 0

    assert _mount("-o", "remount,ro", str(small_disk)) == 0
    refused = run()
    assert refused.code == 2, refused.err
    assert "Read-only file system" in refused.err
    assert "Traceback" not in refused.err

    assert _mount("-o", "remount,rw,size=64m", str(small_disk)) == 0
    finished = run()
    _check(finished, folder, read_output)
    assert finished.json["reused"] > 0
