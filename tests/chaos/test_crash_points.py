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
from tests.chaos.in_process import check, job, prepare, run_here
from tests.storage.s3_servers import CREDENTIALS, make_bucket, s3_server
from tests.support.storage_faults import VARIABLE

pytestmark = pytest.mark.early

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
    folder: Path, output: str, *modes: str, first: int = 1, **environment: str
) -> dict[str, int]:
    """How many points of each mode were tried, all of them well."""
    command = [sys.executable, "-m", "tests.chaos.crash_points", str(folder), output, *modes]
    done = subprocess.run(
        [*command, "--first", str(first)],
        cwd=_ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout
    print(done.stdout)
    found = re.findall(r"^(\S+): (\d+) points tried", done.stdout, re.MULTILINE)
    return {mode: int(number) for mode, number in found}


@pytest.fixture(scope="module")
def some(folder: Path) -> dict[str, int]:
    """Points that were tried in each mode, by one process. All the others: the long tests."""
    modes = ("exit:7", "lose:9", "call:23", "gone:13", "full:15", "read-only:17")
    return _try_points(folder, f"{folder}/out", *modes)


@pytest.mark.parametrize("mode", ["exit", "lose"])
def test_a_job_survives_faults_at_storage_operations_of_all_its_stages(
    mode: str, some: dict[str, int]
) -> None:
    assert some[mode] > 7


def test_a_job_survives_a_crash_between_calls_of_the_file_system(some: dict[str, int]) -> None:
    """Inside of operations: a file is written and has no name yet, has both its names, ..."""
    assert some["call"] > 5


@pytest.mark.parametrize("mode", ["gone", "full", "read-only"])
def test_a_job_goes_on_when_storage_is_there_again(mode: str, some: dict[str, int]) -> None:
    """Wherever it ended, and it said what was wrong."""
    assert some[mode] > 4


@pytest.mark.long
@pytest.mark.parametrize("mode", ["exit", "lose", "gone", "full", "read-only"])
def test_every_storage_operation_may_fail(mode: str, folder: Path) -> None:
    assert _try_points(folder, f"{folder}/all", mode)[mode] > 40


@pytest.mark.long
def test_a_job_survives_a_crash_at_every_call_of_the_file_system(folder: Path) -> None:
    assert _try_points(folder, f"{folder}/all", "call")["call"] > 100


@pytest.mark.parametrize("fault", ["gone_from={n},patience=0", "lose_at={n}"])
def test_a_job_in_memory_survives_faults(
    fault: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 10_000, 7):
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


def test_a_job_on_s3_survives_faults(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("boto3")
    with s3_server("moto", tmp_path) as endpoint:
        environment = CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint}
        make_bucket(endpoint)
        modes = ("exit:40", "lose:40")
        tried = _try_points(folder, "s3://bucket/out", *modes, first=30, **environment)
    assert min(tried["exit"], tried["lose"]) > 1
