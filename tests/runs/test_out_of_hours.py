"""A run that may use the cards at certain hours only: real clocks, simulated engines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.processes import Finished, Launcher
from tests.support.samples import write_model

_ROWS = 4000  # more than an engine does in two minutes
_JOB = """\
name: hours
model: models/tiny
input: {path: rows}
prompt: "{text}"
sampling: {max_tokens: 16}
output: {path: out}
resources: {timezone: UTC, hours: HOURS}
engine:
  kind: simulated
  max_num_seqs: 8
  simulated: {step_seconds: 0.02, output_tokens: 16}
faults: {grace_seconds: 2}
"""


def window(*minutes: tuple[int, int]) -> str:
    """Windows that begin and end so many minutes after the present one."""
    now = datetime.now(UTC)
    parts = [[f"{now + timedelta(minutes=m):%H:%M}" for m in pair] for pair in minutes]
    return ", ".join(f"{begin}-{end}" for begin, end in parts)


def write(folder: Path, hours: str, write_shards: object) -> None:
    write_shards(folder / "rows", _ROWS)  # type: ignore[operator]
    write_model(folder / "models/tiny")
    (folder / "job.yaml").write_text(_JOB.replace("HOURS", f'"{hours}"'))


@pytest.mark.ray
def test_ctrl_c_ends_a_run_that_waits_for_its_hours(
    tmp_path: Path, launcher: Launcher, ask: Callable[..., Finished], write_shards: object
) -> None:
    write(tmp_path, window((120, 180)), write_shards)
    run = launcher.start("run", "job.yaml", cwd=tmp_path)
    run.wait_until(lambda: "waiting: until" in run.output, "the wait")
    assert run.workers() == []
    run.wait_until(lambda: "waits    until" in ask("status", "out").out, "its status")
    run.process.send_signal(2)
    end = run.wait()

    assert end.code == 130
    assert "0 of 4 000 rows are committed" in end.err


@dataclass
class Nights:
    folder: Path
    end: Finished
    verified: Finished


@pytest.fixture(scope="module")
def nights(
    tmp_path_factory: pytest.TempPathFactory, launcher: Launcher, write_shards: object
) -> Nights:
    """A window is over before the job is, and a long one comes a minute later."""
    folder = tmp_path_factory.mktemp("nights")
    while datetime.now(UTC).second > 30:  # enough time to begin in the first window
        time.sleep(1)
    write(folder, window((0, 2), (3, 33)), write_shards)
    run = launcher.start("run", "job.yaml", cwd=folder)
    run.wait_until(lambda: run.output.count("have begun") == 1, "the second night")
    end = run.wait()
    return Nights(folder, end, launcher.run("verify", "out", cwd=folder))


@pytest.mark.ray
@pytest.mark.long
class TestTwoNights:
    def test_every_row_is_there_once(self, nights: Nights) -> None:
        assert (nights.end.code, nights.verified.code) == (0, 0), nights.end.err
        ids = pq.read_table(nights.folder / "out", columns=["id"])["id"].to_pylist()
        assert ids == list(range(_ROWS))

    def test_it_says_when_it_works_and_when_it_waits(self, nights: Nights) -> None:
        assert nights.end.err.count("outside of its hours: the cards are free until") == 1
        assert nights.end.err.count("have begun") == 1
        assert nights.end.err.count("waiting: until") == 1

    def test_nobody_is_blamed(self, nights: Nights) -> None:
        assert "is replaced" not in nights.end.err
        assert "set aside" not in nights.end.err

    def test_waiting_is_no_work(self, nights: Nights) -> None:
        summary = json.loads((nights.folder / "out/_rackmill/summary.json").read_text())

        assert summary["waited_seconds"] > 20
        assert summary["work_seconds"] < summary["seconds"] - summary["waited_seconds"]
