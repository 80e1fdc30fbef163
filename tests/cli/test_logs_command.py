"""`rackmill logs OUTPUT`: what a run logged, merged, by level and worker, followed to its end."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from pipeline.cli.rack import logs as logs_module
from pipeline.logs import ROOT
from pipeline.output.runs.run_log import RunLog
from pipeline.output.runs.run_registry import RunRecord, own_process, this_machine
from pipeline.storage.base import open_storage


def write_log(output: str, run: str, worker: str, *lines: tuple[float, int, str]) -> None:
    log = RunLog(run, worker)
    for at, level, text in lines:
        about = {"created": at, "levelno": level, "levelname": logging.getLevelName(level)}
        log.handle(logging.makeLogRecord(about | {"msg": text, "name": f"{ROOT}.example"}))
    log.open(open_storage(output))
    log.finish()


@pytest.fixture
def logged(tmp_path: Path, ask) -> str:
    """Two runs, the last one with two processes."""
    write_log("out", "1", "driver", (1, logging.INFO, "an earlier run"))
    write_log("out", "2", "driver", (2, logging.INFO, "begins"), (6, logging.ERROR, "failed"))
    of_worker = (3, logging.DEBUG, "leased"), (4, logging.WARNING, "short of memory")
    write_log("out", "2", "worker-0", *of_worker)
    return "out"


def test_the_last_run_is_shown_by_time_from_info_on(ask, logged: str) -> None:
    result = ask("logs", logged)

    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "1970-01-01 00:00:02.000 INFO    driver example: begins",
        "1970-01-01 00:00:04.000 WARNING worker-0 example: short of memory",
        "1970-01-01 00:00:06.000 ERROR   driver example: failed",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--level", "debug"), ["begins", "leased", "short of memory", "failed"]),
        (("--level", "error"), ["failed"]),
        (("--worker", "worker-0"), ["short of memory"]),
        (("--worker", "worker-0", "--level", "debug"), ["leased", "short of memory"]),
        (("--all",), ["an earlier run", "begins", "short of memory", "failed"]),
        (("--follow",), ["begins", "short of memory", "failed"]),
    ],
)
def test_options_choose_lines(ask, logged: str, options: tuple[str, ...], said: list[str]) -> None:
    result = ask("logs", logged, *options)

    assert (result.code, result.err) == (0, "")
    assert [line.split("example: ")[1] for line in result.out.splitlines()] == said


def test_a_worker_that_is_not_there_is_told_with_those_that_are(ask, logged: str) -> None:
    result = ask("logs", logged, "--worker", "worker-7")

    assert result.code == 2
    assert "no line is of worker-7" in result.err
    assert "there are: driver, worker-0" in result.err


def test_a_level_without_lines_says_how_to_see_more(ask, tmp_path: Path) -> None:
    write_log("out", "1", "driver", (1, logging.DEBUG, "leased"))
    result = ask("logs", "out")

    assert (result.code, result.out) == (0, "")
    assert "--level debug" in result.err


@pytest.mark.parametrize("output", ["./nowhere", "memory://nowhere/at-all"])
def test_an_output_without_a_log_is_refused(ask, output: str) -> None:
    result = ask("logs", output)

    assert result.code == 2
    assert "holds no log of a run" in result.err


def test_options_of_a_runs_log_are_none_of_a_submitted_job(ask) -> None:
    result = ask("logs", "tweets", "--level", "debug")

    assert result.code == 2
    assert "--level is for the log of an output" in result.err


def test_following_ends_with_the_run_and_shows_its_last_lines(
    ask, logged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(logged)
    pid, started = own_process()
    now = time.time()
    record = RunRecord("2", "here", this_machine(), pid, started, now, now)
    storage.replace(record.path, record.encode())

    def end(seconds: float) -> None:
        write_log(logged, "2", "worker-1", (7, logging.INFO, "the very last"))
        storage.delete(record.path)

    monkeypatch.setattr(logs_module.time, "sleep", end)
    result = ask("logs", logged, "--follow")

    assert result.out.splitlines()[-1].endswith("worker-1 example: the very last")
    assert len(result.out.splitlines()) == 4
