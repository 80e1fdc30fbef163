"""Somebody plays on the cards of a job that runs: a real run, simulated engines, a fake driver."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline import verify
from pipeline.output.verify.dataset import Verification
from tests.runs.slow_job import published
from tests.support.fake_cards import GIB, RTX_3090, FakeCards, FakeDriver, FakeProcess
from tests.support.processes import Finished, Launcher, Started
from tests.support.samples import write_model

pytestmark = pytest.mark.ray
_ROWS = 2500


@dataclass
class Story:
    """What was seen. ``status``: while both cards were played on; ``unmoved``: by our own workers'
    use of the cards; ``units``: that were done while both were played on, and some
    seconds later."""

    folder: Path
    end: Finished
    verified: Verification
    status: Finished
    unmoved: bool
    units: list[int] = field(default_factory=list)
    workers: list[int] = field(default_factory=list)  # processes of workers, at each turn


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory, launcher: Launcher, write_shards: object
) -> Iterator[Story]:
    """A game on one of two cards, then on both, then on none; one of them gets hot."""
    folder = tmp_path_factory.mktemp("desktop")
    write_shards(folder / "rows", _ROWS)  # type: ignore[operator]
    write_model(folder / "models/tiny")
    (folder / "job.yaml").write_text(
        """\
name: desktop
model: models/tiny
input: {path: rows}
prompt: "{text}"
sampling: {max_tokens: 16}
output: {path: out}
resources: {workers: 2, yield_to_desktop: true, desktop_quiet_seconds: 4}
engine:
  kind: simulated
  max_num_seqs: 8
  simulated: {step_seconds: 0.02, output_tokens: 16}
"""
    )
    card = replace(RTX_3090, watts=300.0, energy_since=time.time())
    cards = FakeCards(folder / "driver.json", FakeDriver([card, card]))
    game = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    plays = {
        "processes": [FakeProcess(game.pid, 4 * GIB, graphics=True, use=45)],
        "utilization": 45,
    }
    rests = {"processes": [], "utilization": 3}
    run = launcher.start("run", "job.yaml", cwd=folder, **cards.environment)
    try:
        said(run, "engine  ready", 2)
        for index, worker in enumerate(run.workers()):
            cards.change(index, processes=[FakeProcess(worker.pid, 20 * GIB, use=90)])
        time.sleep(7)  # longer than a player would need to be noticed
        unmoved = "left to it" not in run.output
        cards.change(1, **plays)
        said(run, "the card is left to it")
        run.wait_until(lambda: len(run.workers()) == 1, "the worker's end")
        workers = [len(run.workers())]
        cards.change(0, **plays)
        said(run, "waiting: ")
        run.wait_until(lambda: not run.workers(), "the workers' end")
        units = [published(folder / "out")]
        time.sleep(3)
        units.append(published(folder / "out"))
        status = launcher.run("status", "out", cwd=folder)
        cards.change(0, **rests)
        cards.change(1, **rests)
        said(run, "it is taken again", 2)
        end = run.wait()
        verified = verify(str(folder / "out"))
        yield Story(folder, end, verified, status, unmoved, units, workers)
    finally:
        game.kill()
        game.wait()


def said(run: Started, words: str, times: int = 1) -> None:
    run.wait_until(lambda: run.output.count(words) >= times, f"{words!r}")


def test_every_row_is_there_once(story: Story) -> None:
    assert story.end.code == 0, story.end.err
    assert story.verified.faults == []
    ids = pq.read_table(story.folder / "out", columns=["id"])["id"].to_pylist()
    assert ids == list(range(_ROWS))


def test_who_plays_is_named_and_when_the_card_is_taken_again(story: Story) -> None:
    assert "worker-1: python" in story.end.err
    assert "uses 45% of it: the card is left to it until nobody has used it for 4.0 s" in (
        story.end.err
    )
    assert story.end.err.count("nobody uses its card any more: it is taken again") == 2


def test_our_own_workers_are_not_taken_for_players(story: Story) -> None:
    assert story.unmoved


def test_nobody_is_blamed_and_nothing_counts_as_a_failure(story: Story) -> None:
    assert "is replaced" not in story.end.err
    assert "set aside" not in story.end.err


def test_the_other_card_works_on_meanwhile(story: Story) -> None:
    assert story.workers == [1]


def test_while_all_cards_are_played_on_nothing_is_done_and_status_says_why(story: Story) -> None:
    before, after = story.units
    assert before == after
    assert "waits    python" in story.status.out
    assert "waiting" in story.status.out


def test_the_time_of_waiting_is_told_and_is_no_work(story: Story) -> None:
    import json

    summary = json.loads((story.folder / "out/_rackmill/summary.json").read_text())

    assert summary["waited_seconds"] > 3
    assert summary["work_seconds"] + summary["ready_seconds"] + summary["waited_seconds"] <= (
        summary["seconds"] + 0.1
    )
    assert summary["lost_rows"] == 0


def test_the_energy_is_that_of_both_cards_while_engines_had_them(story: Story) -> None:
    import json

    summary = json.loads((story.folder / "out/_rackmill/summary.json").read_text())
    joules = 3.6e6 * summary["energy_kwh"]

    assert summary["energy_covered"] == 1.0
    assert summary["energy_by"] == "counters"
    assert 300 * summary["work_seconds"] / 4 < joules < 2 * 300 * summary["seconds"]
    assert "Wh measured" in story.end.err
