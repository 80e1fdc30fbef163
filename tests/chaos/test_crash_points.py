"""Whatever storage call a run dies in, another run ends the job with every row exactly once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from pipeline.errors import RackmillError
from pipeline.storage.fault_injection import VARIABLE
from tests.chaos.in_process import check, job, prepare, run_here
from tests.storage.s3_servers import CREDENTIALS, make_bucket, s3_server

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Input and model, in memory if there is such a place: fsync costs nothing there."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="rackmill-points-", dir=shared if os.access(shared, os.W_OK) else None
    ) as name:
        prepare(Path(name))
        yield Path(name)


def _try_points(
    folder: Path, output: str, mode: str, *, first: int = 1, every: int = 1, **environment: str
) -> int:
    """How many points were tried, all of them well. By two processes at once, of which each takes
    every other point."""
    options = [["--first", str(first + i * every), "--every", str(2 * every)] for i in range(2)]
    command = [sys.executable, "-m", "tests.chaos.crash_points", str(folder), output, mode]
    running = [
        subprocess.Popen(
            [*command, *some],
            cwd=_ROOT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for some in options
    ]
    tried = 0
    for process in running:
        told, _ = process.communicate(timeout=500)
        assert process.returncode == 0, told
        found = re.search(r"^(\d+) points tried", told, re.MULTILINE)
        assert found is not None, told
        tried += int(found[1])
    print(f"{mode}: {tried} points tried")
    return tried


@pytest.mark.parametrize("mode", ["exit", "lose"])
def test_a_job_survives_a_fault_at_every_third_storage_operation(mode: str, folder: Path) -> None:
    assert _try_points(folder, f"{folder}/out", mode, every=3) > 10


@pytest.mark.long
@pytest.mark.parametrize("mode", ["exit", "lose"])
def test_a_job_survives_a_fault_at_every_storage_operation(mode: str, folder: Path) -> None:
    assert _try_points(folder, f"{folder}/out", mode) > 40


def test_a_job_survives_a_crash_between_calls_of_the_file_system(folder: Path) -> None:
    """Inside of operations: a file is written and has no name yet, has both its names, ..."""
    assert _try_points(folder, f"{folder}/out", "call", every=7) > 10


@pytest.mark.long
def test_a_job_survives_a_crash_at_every_call_of_the_file_system(folder: Path) -> None:
    assert _try_points(folder, f"{folder}/out", "call") > 100


@pytest.mark.parametrize("fault", ["gone_from={n},patience=0", "lose_at={n}"])
def test_a_job_in_memory_survives_a_fault_at_every_fourth_operation(
    fault: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 10_000, 4):
        output = f"memory://{tmp_path.name}/{number}"
        counter = tmp_path / f"count-{number}"
        monkeypatch.setenv(VARIABLE, f"{fault.format(n=number)},counter={counter}")
        try:
            run_here(job(folder, output))
        except RackmillError:
            assert "gone" in fault
        monkeypatch.delenv(VARIABLE)
        run_here(job(folder, output))
        check(output)
        if counter.stat().st_size < number:
            break
    assert number > 40
    fsspec.filesystem("memory").store.clear()


@pytest.mark.parametrize("mode", ["gone", "full", "read-only"])
def test_a_job_goes_on_when_storage_is_there_again(mode: str, folder: Path) -> None:
    """Wherever it ended, and it said what was wrong."""
    assert _try_points(folder, f"{folder}/out", mode, every=4) > 10


@pytest.mark.long
@pytest.mark.parametrize("mode", ["gone", "full", "read-only"])
def test_a_job_goes_on_wherever_storage_failed(mode: str, folder: Path) -> None:
    assert _try_points(folder, f"{folder}/all", mode) > 40


def test_a_job_on_s3_survives_faults(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("boto3")
    with s3_server("moto", tmp_path) as endpoint:
        environment = CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint}
        make_bucket(endpoint)
        for mode in ("exit", "lose"):
            address = f"s3://bucket/{mode}"
            assert _try_points(folder, address, mode, first=30, every=15, **environment) > 1
