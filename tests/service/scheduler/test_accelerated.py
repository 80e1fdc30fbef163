"""Many scheduled runs in accelerated time, while the scheduler is killed again and again."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.service.scheduler.schedule_db import RunState, ScheduleDb
from tests.service.scheduler.accelerated import CRON, START


@pytest.mark.parametrize("runs", [100, pytest.param(1000, marks=pytest.mark.long)])
def test_however_often_the_scheduler_is_killed_no_run_is_lost_and_none_doubled(
    runs: int, tmp_path: Path
) -> None:
    ledger = ScheduleDb(tmp_path / "schedules.db")
    job = {"name": "hourly", "schedule": {"cron": CRON}}
    ledger.apply("hourly", job, "/out", START, suspended=False)
    (tmp_path / "clock").write_text("0")
    (tmp_path / "done").mkdir()
    dice, kills = random.Random(runs), 0
    program = "tests.service.scheduler.accelerated"
    command = [sys.executable, "-m", program, str(tmp_path), str(runs)]
    finished = tmp_path / "finished.log"
    finished.touch()
    while True:
        wanted = _lines(finished) + dice.randint(1, runs // 8)
        with subprocess.Popen(command) as service:
            while service.poll() is None and _lines(finished) < wanted:
                time.sleep(0.002)
            time.sleep(dice.uniform(0, 0.02))
            service.kill()
        if service.returncode == 0:
            break
        kills += 1

    found = ledger.runs("hourly")
    expected = [START + timedelta(hours=hour) for hour in range(1, runs + 1)]
    assert [run.due for run in reversed(found)][:runs] == expected
    assert {run.state for run in found[-runs:]} == {RunState.SUCCEEDED}
    assert all(run.notice == "" for run in found[1 - runs :])  # the newest may be told later
    worked = Counter(finished.read_text().splitlines())
    assert set(worked.values()) == {1}
    assert kills >= 3


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")
