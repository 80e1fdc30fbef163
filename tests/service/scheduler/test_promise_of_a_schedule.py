"""The promise of a schedule's first run: held for rows that look alike, taken back for others."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.driver.conclude import RunOutcome, conclude
from pipeline.driver.progress.watcher import Watcher
from pipeline.driver.run import RunOptions
from pipeline.job.job import Job
from pipeline.output.dataset import Dataset
from pipeline.output.verify.dataset import verify
from pipeline.report.summary import Summary
from pipeline.service.scheduler import run_once as performing
from pipeline.service.scheduler.run_once import ScheduledRun, run_once
from pipeline.storage.base import open_storage
from tests.support.datasets import begin
from tests.support.trusted import commit_all, job_over, table_of, world, write_rows

pytestmark = pytest.mark.usefixtures("large_units")

WORLD = world(6000, seed=3)
BAD = [n for n in range(2400, 6000) if WORLD[0][n] == "bad" or n % 10 == 0][:600]
PARTS = [range(1200), range(1200, 1800), BAD]
NIGHT = datetime(2026, 11, 24, 2, tzinfo=UTC)
TAKEN_BACK = "its promise is taken back: no row is accepted"


class Notes(Watcher):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, line: str) -> None:
        self.said.append(line)


@pytest.fixture
def nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[ScheduledRun, list[str]]]:
    """Three runs: with right answers, over rows that look alike, over nearly only bad ones."""
    truth, probabilities = WORLD
    every = [n for part in PARTS for n in part]

    def work(job: Job, options: RunOptions, *_: Any) -> Summary:
        plan, dataset = begin(job, files=options.files)
        commit_all(plan, dataset, probabilities[every], lambda row: False)
        return conclude(plan, dataset, RunOutcome(), time.time())

    monkeypatch.setattr(performing, "run", work)
    done, start = [], 0
    for night, part in enumerate(PARTS):
        known = (lambda row: row % 4 == 0) if night == 0 else (lambda row: False)
        write_rows(tmp_path, [truth[n] for n in part], known, f"night{night}", start)
        start += len(part)
        watcher = Notes()
        made = run_once(job_over(tmp_path), NIGHT + timedelta(days=night), watcher=watcher)
        done.append((made, watcher.said))
    return done


def test_it_is_held_and_taken_back_and_said_everywhere(
    nights: list[tuple[ScheduledRun, list[str]]], tmp_path: Path, ask: Any
) -> None:
    summaries = [made.summary or {} for made, _ in nights]
    first, alike, other = (one["trust"]["label"] for one in summaries)
    names = [str(made.run) for made, _ in nights]
    outputs = [Dataset(open_storage(str(tmp_path / f"out/run={name}"))) for name in names]

    assert first["acceptance"]["rows"] > 600
    assert (alike["inherited_from"], alike["drift"]["found"]) == (names[0], False)
    assert alike["acceptance"]["rows"] == table_of(outputs[1])["accepted"].to_pylist().count(True)
    assert (other["inherited_from"], other["drift"]["found"]) == (names[0], True)
    assert other["acceptance"] is None
    assert set(table_of(outputs[2])["accepted"].to_pylist()) == {None}

    assert not [line for _, said in nights[:2] for line in said if TAKEN_BACK in line]
    assert [line for line in nights[2][1] if TAKEN_BACK in line]
    folder = tmp_path / f"out/run={names[2]}/_rackmill"
    assert TAKEN_BACK in (folder / "report.md").read_text()
    assert json.loads((folder / "summary.json").read_text())["trust"] == summaries[2]["trust"]
    assert nights[2][0].drift == pytest.approx(0.3, abs=0.15)
    for output in outputs:
        assert verify(output.storage).faults == []

    told = ask("status", str(tmp_path / "out")).out
    assert told.count("promise taken back") == 1
    assert [line for line in told.splitlines() if names[2][:10] in line and "taken back" in line]
    history = (tmp_path / "out/_history/history.md").read_text()
    assert history.count("taken back") >= 1


def accepted(folder: Path) -> list[set[bool | None]]:
    """What stands in the column of each run, the first one first."""
    runs = sorted(folder.glob("out/run=*"))
    columns = [table_of(Dataset(open_storage(str(run))))["accepted"] for run in runs]
    return [set(column.to_pylist()) for column in columns]


def gold_of(folder: Path, every: list[int]) -> str:
    """A file with right answers of each night: of every second row, of every third, …; 0: none."""
    path, start = folder / "gold.csv", 0
    lines = ["id,right"]
    for step, part in zip(every, PARTS, strict=True):
        known = range(0, len(part), step) if step else ()
        lines += [f"{start + n},{WORLD[0][part[n]]}" for n in known]
        start += len(part)
    path.write_text("\n".join(lines))
    return str(path)


@pytest.mark.usefixtures("nights")
def test_trusting_the_dataset_gives_no_promise_back_without_fresh_right_answers(
    tmp_path: Path, ask: Any
) -> None:
    output = str(tmp_path / "out")

    told = ask("trust", output).out

    [line] = [line for line in told.splitlines() if "its promise is taken back" in line]
    assert "rackmill review" in line
    first, alike, other = accepted(tmp_path)
    assert True in first
    assert True in alike
    assert other == {None}
    assert ask("status", output).out.count("promise taken back") == 1
    count = sum(
        table_of(Dataset(open_storage(str(run))))["accepted"].to_pylist().count(True)
        for run in tmp_path.glob("out/run=*")
    )
    assert f"{count} of 2400 rows are accepted" in re.sub(r"(?<=\d)\s(?=\d)", "", told)
    assert ask("trust", output).out.endswith("nothing had to be changed\n")


@pytest.mark.usefixtures("nights")
@pytest.mark.parametrize("every", [[4, 4, 4], [1, 1, 2]])
def test_right_answers_of_every_run_give_it_back(
    tmp_path: Path, ask: Any, every: list[int]
) -> None:
    """In the second case the last run has too few for its share, but they show it by themselves."""
    output = str(tmp_path / "out")

    told = ask("trust", output, "--gold", gold_of(tmp_path, every), "--error", "0.1").out

    assert "taken back" not in told
    assert all(True in one for one in accepted(tmp_path))
    assert ask("status", output).out.count("promise taken back") == 0
