"""A card falls off the bus while a job runs: a real run, simulated engines, a fake driver."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.fake_cards import RTX_3090, FakeCards, FakeDriver
from tests.support.processes import Finished, Launcher
from tests.support.samples import write_model

pytestmark = pytest.mark.ray
_ROWS = 1000
_JOB = """\
name: lost
model: models/tiny
input: {path: rows}
prompt: "{text}"
sampling: {max_tokens: 16}
output: {path: out}
resources: {workers: WORKERS}
engine:
  kind: simulated
  max_num_seqs: 8
  simulated: {step_seconds: 0.02, output_tokens: 16}
"""


def run_that_loses_a_card(
    folder: Path, launcher: Launcher, write_shards: object, workers: int
) -> Finished:
    """The last of ``workers`` cards goes when all engines are at work."""
    write_shards(folder / "rows", _ROWS)  # type: ignore[operator]
    write_model(folder / "models/tiny")
    (folder / "job.yaml").write_text(_JOB.replace("WORKERS", str(workers)))
    cards = FakeCards(folder / "driver.json", FakeDriver([RTX_3090] * workers))
    run = launcher.start("run", "job.yaml", cwd=folder, **cards.environment)
    run.wait_until(lambda: run.output.count("engine  ready") == workers, "the engines")
    cards.change(workers - 1, lost=True)
    return run.wait()


def test_the_job_goes_on_with_the_cards_that_are_left(
    tmp_path: Path, launcher: Launcher, write_shards: object
) -> None:
    end = run_that_loses_a_card(tmp_path, launcher, write_shards, 2)

    assert end.code == 0, end.err
    assert "worker-1: set aside, 1 engine left: the RTX 3090 (card 1" in end.err
    assert "has fallen off the bus: restart its machine" in end.err
    out = pq.read_table(tmp_path / "out", columns=["id", "error"])
    assert out["id"].to_pylist() == list(range(_ROWS))
    assert out["error"].null_count == _ROWS


def test_without_any_left_it_ends_and_says_what_to_do(
    tmp_path: Path, launcher: Launcher, write_shards: object
) -> None:
    end = run_that_loses_a_card(tmp_path, launcher, write_shards, 1)

    assert end.code == 1
    assert "no engine is left: worker-0 stopped: the RTX 3090 (card 0" in end.err
    assert "has fallen off the bus: restart its machine" in end.err
    assert "Traceback" not in end.err
