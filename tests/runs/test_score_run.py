"""A job that scores, killed in its middle and run again: what is summed up stays true."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.runs.slow_job import kill_workers_on
from tests.support.ray_head import SharedRay
from tests.support.samples import write_model

pytestmark = pytest.mark.ray

_JOB = """\
name: score
model: models/tiny
input: {path: rows/*.parquet}
prompt: "{text}"
score: {top_k: 4}
output: {path: out, keep: [id]}
engine: {kind: simulated, simulated: {step_seconds: 0.15}, max_num_seqs: 24}
resources: {workers: 1}
"""
_ROWS = 500


@dataclass(frozen=True)
class Scored:
    folder: Path
    facts: dict[str, Any]
    table: pa.Table
    report: str


@pytest.fixture(scope="module")
def scored(
    tmp_path_factory: pytest.TempPathFactory,
    launcher,
    shared_ray: SharedRay,
    write_shards,
    read_output,
) -> Scored:
    folder = tmp_path_factory.mktemp("score")
    write_model(folder / "models/tiny")
    write_shards(folder / "rows", _ROWS)
    (folder / "job.yaml").write_text(_JOB)
    output: Path = folder / "out"
    command = ("run", "job.yaml", "--json", "--address", shared_ray.address)
    first = launcher.start(*command, cwd=folder, **shared_ray.environment)
    first.wait_until(lambda: any(output.glob("[!.]*.parquet")), "a unit")
    first.kill_driver()
    kill_workers_on(shared_ray)
    finished = launcher.run(*command, cwd=folder, **shared_ray.environment)
    assert finished.code == 0, finished.err
    report = (output / "_rackmill/report.md").read_text()
    return Scored(folder, finished.json, read_output(output), report)


def test_every_row_has_its_scores_in_order(scored: Scored) -> None:
    assert scored.table["id"].to_pylist() == list(range(_ROWS))
    assert scored.table["logprob"].null_count == 0


def test_the_columns_are_the_planned_ones_and_no_completion_is_among_them(
    scored: Scored, ask, monkeypatch
) -> None:
    monkeypatch.chdir(scored.folder)
    planned = ask("plan", "job.yaml", "--json")

    assert planned.code == 0, planned.err
    assert scored.table.column_names == planned.json["columns"]
    assert "completion" not in scored.table.column_names


def test_the_run_was_resumed(scored: Scored) -> None:
    """What makes the next test worth something."""
    assert 0 < scored.facts["reused"] < _ROWS


def test_corpus_perplexity_is_that_of_all_tokens_of_all_runs(scored: Scored) -> None:
    tokens = sum(scored.table["tokens"].to_pylist())
    logprob = math.fsum(scored.table["logprob"].to_pylist())

    assert scored.facts["scored_tokens"] == tokens
    assert scored.facts["perplexity"] == pytest.approx(math.exp(-logprob / tokens), rel=1e-4)


def test_bos_is_read_but_not_scored(scored: Scored) -> None:
    read = scored.table["prompt_tokens"].to_pylist()
    assert [n - 1 for n in read] == scored.table["tokens"].to_pylist()


def test_the_report_says_the_perplexity_and_leaves_the_lists_out(scored: Scored) -> None:
    assert f"Perplexity {scored.facts['perplexity']:.4g} over" in scored.report
    assert "top_token_ids" not in scored.report
