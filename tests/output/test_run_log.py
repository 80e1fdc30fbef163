"""A run's log lies beside its output: whole, bounded, and never in the way."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from pipeline.errors import CommitFailed
from pipeline.logs import ROOT, LogLine
from pipeline.output.commit.records import LOGS
from pipeline.output.runs import run_log
from pipeline.output.runs.run_log import (
    LogReader,
    RunLog,
    forget_old_runs,
    logged_runs,
    new_run,
)
from pipeline.storage.base import Storage, open_storage

_log = logging.getLogger(f"{ROOT}.example")


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    address = str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}-log"
    return open_storage(address, patience_seconds=0)


class Failing:
    """Storage that cannot be written for a while."""

    def __init__(self, inner: Storage) -> None:
        self.inner, self.fails = inner, True

    def replace(self, path: str, content: bytes) -> None:
        if self.fails:
            raise CommitFailed("no room")
        self.inner.replace(path, content)

    def delete(self, path: str) -> None:
        self.inner.delete(path)


def texts(storage: Storage, *runs: str) -> list[str]:
    return [line.text for line in LogReader(storage, runs).new_lines()]


def test_what_was_logged_before_the_output_was_ours_is_there_too(storage: Storage) -> None:
    with RunLog("one", "driver") as log:
        _log.info("before")
        assert storage.files(LOGS) == []
        log.open(storage)
        _log.debug("after")

    assert texts(storage, "one") == ["before", "after"]
    assert logged_runs(storage) == ["one"]


def test_a_log_that_is_never_opened_leaves_nothing(storage: Storage) -> None:
    with RunLog("one", "driver"):
        _log.error("refused")

    assert storage.files(LOGS) == []


def test_a_warning_is_there_soon_while_the_run_goes_on(storage: Storage) -> None:
    with RunLog("one", "driver") as log:
        log.open(storage)
        _log.warning("trouble")
        deadline = time.monotonic() + 4
        while not texts(storage, "one") and time.monotonic() < deadline:
            time.sleep(0.02)
        assert texts(storage, "one") == ["trouble"]


def test_lines_of_all_processes_are_merged_by_time(storage: Storage) -> None:
    logs = [RunLog("one", name) for name in ("driver", "worker-0")]
    for number, log in enumerate(logs):
        for at in (number, number + 10):
            about = {"levelno": logging.INFO, "levelname": "INFO", "name": ROOT}
            log.handle(logging.makeLogRecord(about | {"msg": f"at {at}", "created": at}))
        log.open(storage)
        log.finish()

    lines = LogReader(storage, ["one"]).new_lines()
    assert [line.text for line in lines] == ["at 0", "at 1", "at 10", "at 11"]
    assert [line.worker for line in lines] == ["driver", "worker-0"] * 2


def test_a_reader_that_follows_gets_each_line_once(storage: Storage) -> None:
    reader = LogReader(storage, ["one"])
    with RunLog("one", "driver", piece_bytes=400) as log:
        log.open(storage)
        got: list[LogLine] = []
        for number in range(12):
            _log.info("line %d", number)
            log.write()
            got += reader.new_lines()
    assert [line.text for line in got + reader.new_lines()] == [f"line {n}" for n in range(12)]


def test_a_long_log_keeps_its_end_and_stays_within_its_bytes(storage: Storage) -> None:
    with RunLog("one", "driver", most_bytes=4_000, piece_bytes=1_000) as log:
        log.open(storage)
        for number in range(200):
            _log.info("line %d", number)
            log.write()

    size = sum(size for _, size in storage.files(LOGS))
    kept = texts(storage, "one")
    assert size <= 4_000 + 1_500  # pieces end with a whole line, and one more is being written
    assert kept[-1] == "line 199"
    assert kept == [f"line {n}" for n in range(200 - len(kept), 200)]


def test_the_log_of_storage_that_fails_is_written_once_it_answers(storage: Storage) -> None:
    failing = Failing(storage)
    with RunLog("one", "driver") as log:
        log.open(failing)  # type: ignore[arg-type]
        _log.info("first")
        log.write()
        assert storage.files(LOGS) == []
        _log.info("second")
        failing.fails = False

    assert texts(storage, "one") == ["first", "second"]


def test_what_storage_never_takes_is_bounded_and_said(storage: Storage) -> None:
    failing = Failing(storage)
    with RunLog("one", "driver", most_bytes=4_000) as log:
        log.open(failing)  # type: ignore[arg-type]
        for number in range(500):
            _log.info("line %d", number)
        failing.fails = False

    found = texts(storage, "one")
    assert any("lines are missing here" in text for text in found)
    assert found[-1] == "line 499"
    assert sum(size for _, size in storage.files(LOGS)) < 5_000


def test_a_place_that_is_none_ends_nothing() -> None:
    with RunLog("one", "driver") as log:
        log.open_at("nonsense://nowhere")
        _log.error("lost")

    assert not log.opened


def test_logs_of_the_last_runs_are_kept(storage: Storage) -> None:
    for run in ("20260101-a", "20260102-b", "20260103-c"):
        for worker in ("driver", "worker-0"):
            with RunLog(run, worker) as log:
                log.open(storage)
                _log.info("here")

    forget_old_runs(storage, 2)

    assert logged_runs(storage) == ["20260102-b", "20260103-c"]
    assert len(texts(storage, *logged_runs(storage))) == 4


def test_later_runs_have_later_names(monkeypatch: pytest.MonkeyPatch) -> None:
    early, later = new_run(), time.gmtime(time.time() + 2)
    monkeypatch.setattr(run_log.time, "gmtime", lambda: later)

    assert early < new_run()


def test_logging_is_afterwards_as_it_was(storage: Storage) -> None:
    ours = logging.getLogger(ROOT)
    before = ours.level, ours.propagate, list(ours.handlers)
    with RunLog("one", "driver"):
        assert ours.isEnabledFor(logging.DEBUG)

    assert (ours.level, ours.propagate, list(ours.handlers)) == before


def test_a_program_that_set_up_logging_gets_what_its_level_asks_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with RunLog("one", "driver"):
        _log.info("not asked for")
        _log.warning("asked for")

    assert caplog.messages == ["asked for"]
