"""Several questions of each row from end to end, by the real command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.support.ray_head import SharedRay

pytestmark = pytest.mark.ray

_JOB = """\
name: questions
model: gemma-3-270m
input: {path: rows/*.parquet}
prompt: "Tweet: {text}"
examples:
  - {text: "so late again", answer: {mood: very negative, urgent: no}}
questions:
  mood:    {ask: "Mood:", choices: [negative, very negative, positive], gold: sentiment}
  urgent:  {predicate: "Is it urgent?"}
  quality: {score: [poor, fair, fine], ask: "Quality:"}
output: {path: out, keep: [sentiment, id]}
engine:
  kind: simulated
  max_num_seqs: 64
  simulated: {step_seconds: 0.05, faults: {refuse_on: "tweet 7 "}}
resources: {workers: 1}
"""
_ROWS = (200, 112)
_SIMULATED = ("--model", "gemma-3-270m", "--gpu", "1x rtx3090", "--json")
_NAMES = ("mood", "urgent", "quality")


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    launcher: Any,
    shared_ray: SharedRay,
    write_shards: Any,
) -> Path:
    folder = tmp_path_factory.mktemp("questions")
    write_shards(folder / "rows", *_ROWS)
    (folder / "job.yaml").write_text(_JOB)
    command = ("run", "job.yaml", "--json", "--address", shared_ray.address)
    finished = launcher.run(*command, cwd=folder, **shared_ray.environment)
    assert finished.code in (0, 3), finished.err
    (folder / "said.json").write_text(finished.out)
    return folder


@pytest.fixture(scope="module")
def table(folder: Path, read_output: Any) -> pa.Table:
    read: pa.Table = read_output(folder / "out")
    return read


def test_every_row_has_every_answer_or_an_error_that_names_its_question(table: pa.Table) -> None:
    rows = table.to_pylist()

    assert [row["id"] for row in rows] == list(range(sum(_ROWS)))
    for row in rows:
        if row["error"] is None:
            assert None not in [row[name] for name in _NAMES]
        else:
            assert "question 'mood'" in row["error"]["message"]
            assert [row[name] for name in _NAMES] == [None] * 3


def test_columns_are_typed_and_hang_together(table: pa.Table) -> None:
    for row in (row for row in table.to_pylist() if row["error"] is None):
        assert sum(row["mood_probabilities"].values()) == pytest.approx(1)
        assert max(row["mood_probabilities"].values()) == pytest.approx(row["mood_raw_confidence"])
        assert 0 < row["mood_confidence"] <= 1  # calibrated by the right answers
        assert row["urgent"] == (row["urgent_probability"] > 0.5)
        levels = row["quality_probabilities"].values()
        mean = sum(level * p for level, p in enumerate(levels))
        assert row["quality_expectation"] == pytest.approx(mean)


def test_the_summary_counts_what_the_rows_say(folder: Path, table: pa.Table) -> None:
    told = json.loads((folder / "said.json").read_text())
    failed = sum(error is not None for error in table["error"].to_pylist())

    assert told["failed"] == failed
    for name, column in zip(_NAMES, map(table.column, _NAMES), strict=True):
        assert sum(told["questions"][name]["labels"].values()) == sum(_ROWS) - failed
        assert len(told["questions"][name]["labels"]) == len(set(column.drop_null().to_pylist()))
    assert told["questions"]["mood"]["graded"] == sum(_ROWS) - failed
    assert told["requests"] >= 3 * (sum(_ROWS) - failed)


def test_it_is_verified_and_nothing_is_left_to_do(folder: Path, ask: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(folder)

    assert ask("verify", "out").code == 0
    again = ask("run", "job.yaml", "--json")
    assert again.json["reused"] == sum(_ROWS)


def test_the_run_can_be_simulated_as_a_trace(folder: Path, ask: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(folder)
    told = ask("simulate", "--trace", "out", *_SIMULATED)

    assert told.code == 0, told.err
