"""How far jobs are, read beside their outputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.output.runs.run_registry import RunRecord
from pipeline.service.queue import progress_poller as module
from pipeline.service.queue.progress_poller import ProgressPoller
from pipeline.storage.base import open_storage


@pytest.fixture
def progress(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProgressPoller]:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.01)
    progress = ProgressPoller()
    yield progress
    progress.close()
    progress._thread.join()


def write(output: Path, run: str, started: float, rows_done: int) -> None:
    """As a run does."""
    record = RunRecord(run, "host", "machine", 1, 0.0, started, started, rows_done=rows_done)
    open_storage(str(output)).replace(record.path, record.encode())


def soon(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def test_a_jobs_course_is_what_its_last_run_says(progress: ProgressPoller, tmp_path: Path) -> None:
    write(tmp_path / "out", "first", 1.0, 10)
    write(tmp_path / "out", "second", 2.0, 20)
    assert progress.of("one") is None
    progress.follow({"one": str(tmp_path / "out")})

    assert soon(lambda: (found := progress.of("one")) is not None and found.rows_done == 20)
    write(tmp_path / "out", "second", 2.0, 30)
    assert soon(lambda: (found := progress.of("one")) is not None and found.rows_done == 30)


def test_a_job_that_runs_no_more_has_none(progress: ProgressPoller, tmp_path: Path) -> None:
    write(tmp_path / "out", "first", 1.0, 10)
    progress.follow({"one": str(tmp_path / "out")})
    assert soon(lambda: progress.of("one") is not None)

    def gone() -> bool:
        progress.follow({})
        return progress.of("one") is None

    assert soon(gone)


def test_an_output_that_cannot_be_read_hides_no_other(
    progress: ProgressPoller, tmp_path: Path
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/_rackmill").write_text("not a folder")
    write(tmp_path / "out", "first", 1.0, 10)
    progress.follow(
        {"bad": str(tmp_path / "bad"), "odd": "nosuch://x", "one": str(tmp_path / "out")}
    )

    assert soon(lambda: progress.of("one") is not None)
    assert progress.of("bad") is None
