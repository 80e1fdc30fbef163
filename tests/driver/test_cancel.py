"""Asking a run to stop, where there is none or one that does not answer."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.driver.stop import cancel as module
from pipeline.driver.stop.cancel import cancel
from pipeline.errors import JobFailed
from pipeline.output.commit.records import CANCEL, MANIFEST
from pipeline.output.runs.run_registry import RunRecord, own_process, this_machine
from pipeline.storage.base import Storage, open_storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An output of some job."""
    made = open_storage(str(tmp_path / "out"))
    made.replace(MANIFEST, b"{}")
    return made


def keep(storage: Storage, **changes: object) -> RunRecord:
    pid, started = own_process()
    now = time.time()
    made = RunRecord("one", "here", this_machine(), pid, started, now, now, rows=100, rows_done=40)
    made = replace(made, **changes)  # type: ignore[arg-type]
    storage.replace(made.path, made.encode())
    return made


def test_what_is_no_output_is_refused(ask) -> None:
    finished = ask("stop", "./nowhere")

    assert finished.code == 2
    assert "nowhere is not an output of rackmill" in finished.err


def test_where_no_run_is_alive_that_is_said(storage: Storage, ask) -> None:
    keep(storage, pid_started=0.0)
    finished = ask("stop", storage.address())

    assert finished.code == 0
    assert "no run is at work" in finished.out
    assert "died: 40 of 100 rows are committed, 60 are left" in finished.out
    assert storage.read(CANCEL) is None


def test_the_name_that_it_had_before_does_the_same(storage: Storage, ask) -> None:
    keep(storage, pid_started=0.0)

    assert ask("cancel", storage.address()) == ask("stop", storage.address())
    assert "cancel" not in ask("--help").out


def test_without_waiting_it_only_asks(storage: Storage, ask) -> None:
    keep(storage)
    finished = ask("stop", storage.address(), "--no-wait", "--grace", "7", "--json")

    assert finished.code == 0
    facts = finished.json
    assert (facts["was_alive"], facts["state"], facts["rows_left"]) == (True, "running", 60)
    assert b'"grace_seconds": 7.0' in (storage.read(CANCEL) or b"")


def test_a_run_that_does_not_answer_is_named(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = keep(storage)
    monkeypatch.setattr(module, "_NOTICE_SECONDS", 0.2)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.05)

    with pytest.raises(JobFailed, match="does not answer") as failed:
        cancel(storage.address())
    assert f"kill -9 {made.pid}" in str(failed.value)


def test_a_run_that_ends_while_it_is_asked_is_waited_for(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = keep(storage)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: keep(storage, state="stopped"))

    result = cancel(storage.address())

    assert result.was_alive
    assert result.run is not None
    assert (result.run.run, result.run.state) == (made.run, "stopped")
