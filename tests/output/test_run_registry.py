"""The record that a run keeps while it lives, and what others make of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pipeline.errors import AlreadyRunning
from pipeline.output.runs import run_registry as alive
from pipeline.output.runs.run_registry import (
    CANCEL,
    RUNS,
    CancelRequest,
    Life,
    RunRecord,
    cancel_request,
    live_runs,
    own_process,
    read_runs,
    refuse_second,
    this_machine,
)
from pipeline.storage.base import Storage, open_storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "out"))


def record(**changes: object) -> RunRecord:
    """Of a run in this very process."""
    pid, pid_started = own_process()
    now = time.time()
    made = RunRecord("one", "here", this_machine(), pid, pid_started, now - 60, now, rows=100)
    return replace(made, **changes)  # type: ignore[arg-type]


def elsewhere(**changes: object) -> RunRecord:
    return record(host="there", machine="another", pid=1, **changes)


def keep(storage: Storage, made: RunRecord) -> RunRecord:
    storage.replace(made.path, made.encode())
    return made


def test_a_record_is_read_as_it_was_written(storage: Storage) -> None:
    made = keep(storage, record(rows_done=7, rows_per_second=1.5, message="ü"))

    assert read_runs(storage) == [made]


def test_records_come_in_the_order_in_which_their_runs_began(storage: Storage) -> None:
    later = keep(storage, record(run="a", started=2.0))
    sooner = keep(storage, record(run="b", started=1.0))

    assert read_runs(storage) == [sooner, later]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b'{"run": "x"}', b"\xff\xfe"])
def test_what_is_no_record_is_passed_over(content: bytes, storage: Storage) -> None:
    storage.replace(f"{RUNS}/x.json", content)

    assert read_runs(storage) == []


def test_a_record_of_a_later_version_can_be_read(storage: Storage) -> None:
    made = record()
    storage.replace(made.path, made.encode().replace(b'"run"', b'"more": [1], "run"'))

    assert read_runs(storage) == [made]


def test_a_run_on_this_machine_lives_as_long_as_its_process_does() -> None:
    assert record(beat=0.0).life() is Life.ALIVE  # it may hang, but it is there

    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        started = psutil.Process(ended.pid).create_time()
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert record(pid=ended.pid, pid_started=started).life() is Life.DEAD  # a zombie
    assert record(pid=ended.pid, pid_started=started).life() is Life.DEAD


def test_a_process_that_has_only_the_number_is_not_the_run() -> None:
    assert record(pid_started=own_process()[1] - 100).life() is Life.DEAD


def test_a_run_elsewhere_lives_for_half_a_minute_after_its_last_beat() -> None:
    made = elsewhere()

    assert made.life(made.beat + 29) is Life.ALIVE
    assert made.life(made.beat + 31) is Life.DEAD


@pytest.mark.parametrize("state", ["ended", "stopped", "failed"])
def test_a_run_that_said_that_it_ended_has(state: str) -> None:
    assert record(state=state).life() is Life.ENDED


def test_a_second_run_is_told_of_the_first(storage: Storage) -> None:
    keep(storage, record(rows_done=40, seconds_left=90.0))

    with pytest.raises(AlreadyRunning) as refused:
        refuse_second(storage)

    text = str(refused.value)
    assert f"process {os.getpid()} on here, begun 1 min ago" in text
    assert "40 of 100 rows are committed, about 1 min 30 s left" in text
    assert f"rackmill stop {storage.address()}" in text


def test_one_that_seems_to_sleep_is_told_how_to_be_woken(storage: Storage) -> None:
    keep(storage, record(beat=time.time() - 300))

    with pytest.raises(
        AlreadyRunning, match=f"5 min: it may be suspended .kill -CONT {os.getpid()}"
    ):
        refuse_second(storage)


def test_runs_that_are_no_more_do_not_keep_others_away(storage: Storage) -> None:
    keep(storage, record(run="a", state="failed"))
    keep(storage, record(run="b", pid_started=0.0))
    keep(storage, elsewhere(run="c", beat=time.time() - 31))

    refuse_second(storage)

    assert live_runs(storage) == []


class TestElsewhere:
    """A run of another machine that was heard of just now may have died since."""

    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(alive, "PATIENCE_SECONDS", 0.6)
        monkeypatch.setattr(alive, "_LOOK_SECONDS", 0.05)

    def test_one_that_is_silent_is_waited_for_and_then_passed_over(self, storage: Storage) -> None:
        keep(storage, elsewhere(beat=time.time() + 60))
        notes: list[str] = []
        before = time.monotonic()

        refuse_second(storage, notes.append)

        assert time.monotonic() - before >= 0.4
        assert len(notes) == 1
        assert "process 1 on there" in notes[0]
        assert "waiting up to" in notes[0]

    def test_one_that_beats_is_told_of(self, storage: Storage) -> None:
        made = keep(storage, elsewhere(beat=time.time() + 60))
        beat = threading.Timer(0.1, lambda: keep(storage, replace(made, beat=made.beat + 2)))
        beat.start()

        with pytest.raises(AlreadyRunning, match="process 1 on there"):
            refuse_second(storage)
        beat.join()

    def test_one_that_ends_meanwhile_is_not(self, storage: Storage) -> None:
        made = keep(storage, elsewhere(beat=time.time() + 60))
        end = threading.Timer(0.1, lambda: keep(storage, replace(made, state="stopped")))
        end.start()

        refuse_second(storage)
        end.join()


def test_a_request_to_stop_is_read_as_it_was_made(storage: Storage) -> None:
    assert cancel_request(storage) is None
    storage.replace(CANCEL, CancelRequest(5.0, 2.5).encode())
    assert cancel_request(storage) == CancelRequest(5.0, 2.5)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"grace_seconds": "x"}'])
def test_a_request_that_cannot_be_read_is_one_too(content: bytes, storage: Storage) -> None:
    storage.replace(CANCEL, content)

    assert cancel_request(storage) == CancelRequest(0.0)
