"""`plan` and `simulate --trace OUTPUT` say the same of a job, where both know the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import pipeline
from pipeline import job_from
from pipeline.budget.predict import MeasuredRun, Workload
from pipeline.driver.forecast.request_shape import request_shape
from pipeline.errors import UsageError
from pipeline.model.tokenizer import Tokenizer
from pipeline.output.columns.results import RowResult, tally, to_table
from pipeline.output.dataset import Dataset
from pipeline.prompt.builder import PromptBuilder
from pipeline.prompt.join import Prompt
from pipeline.report.profile import ProfileEntry, remember
from pipeline.simulate.run_trace import REQUESTS, read_trace
from pipeline.storage.base import open_storage

ROWS = 240
RULES = "Read the tweet to its end, think of who wrote it, and say how that person feels. " * 12
PLACES = [
    ("gemma-3-27b", "rtx3090", "1x rtx3090"),
    ("gemma-3-4b", "rtx4060-laptop", "1x rtx4060-laptop"),
    ("gemma-3-12b", "rtx3090:2", "2x rtx3090"),
]
JOBS: dict[str, dict[str, Any]] = {
    "labels": {"instructions": RULES, "label": {"choices": ["negative", "positive"]}},
    "text": {"sampling": {"max_tokens": 200}},
    "score": {"score": {}},
}


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask) -> Callable[..., Path]:
    """Writes a job, and an output as a run of it leaves it; the job file. Its answers are known."""
    monkeypatch.setenv("RACKMILL_PROFILE", str(tmp_path / "profile.jsonl"))
    texts = [f"tweet {i} " + "about a flight, " * (1 + i * 7 % 23) for i in range(ROWS)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "in.parquet")

    def make(facts: Sequence[str] = (REQUESTS,), copies: int = 0, **job: Any) -> Path:
        content = {
            "name": "job",
            "model": "gemma-3-270m",
            "input": {"path": str(tmp_path / "in.parquet")},
            "prompt": "Tweet: {text}\nMood:",
            "output": {"path": str(tmp_path / "out"), "keep": []},
        } | job
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(content))
        plan = pipeline.plan(job_from(content))
        prompts = PromptBuilder(plan.job, Tokenizer(plan.model.path)).build(
            [{"text": text} for text in texts]
        )
        results = []
        for row, prompt in enumerate(prompts):
            assert isinstance(prompt, Prompt)
            tokens = 0 if "score" in job else 1 if "label" in job else 20 + row * 13 % 150
            one = RowResult("x", prompt_tokens=len(prompt.ids), completion_tokens=tokens)
            results.append(replace(one, duplicate=row >= ROWS - copies))
        dataset = Dataset(open_storage(plan.job.output.path))
        dataset.take_over(plan.manifest)
        known = {REQUESTS: request_shape(plan).encode()}
        for unit in plan.units:
            part = results[unit.start : unit.stop]
            rows = pq.read_table(tmp_path / "in.parquet").slice(unit.start, unit.rows)
            columns = plan.input.columns
            table, counted = to_table(rows, part, columns), tally(rows, part, columns)
            dataset.commit(unit, table, counted, {k: known[k] for k in facts})
        mean = sum(r.completion_tokens for r in results) / ROWS
        spread = tuple(float(r.completion_tokens) for r in results[:: ROWS // 30])
        workload = Workload("text", ROWS, 50.0, 0.0, mean, completion_slices=spread)
        workload = replace(workload, repeated=copies / ROWS)
        run = MeasuredRun(workload, 1, 9.0, 9.0, 1.0)
        remember(ProfileEntry("2026-01-01", "another", "none", "vllm", plan.template, run))
        return tmp_path / "job.yaml"

    return make


def both(ask: Any, job: Path, model: str, simulated: str, planned: str) -> tuple[float, float]:
    """Seconds of work that `plan` and `simulate` foretell."""
    changed = ("--set", f"model={model}", "--output", "another", "--gpus", planned, "--json")
    plan = ask("plan", str(job), *changed)
    assert plan.code == 0, plan.err
    trace = ("--trace", "out", "--model", model, "--gpu", simulated, "--json")
    simulation = ask("simulate", *trace)
    assert simulation.code == 0, simulation.err
    phases = plan.json["phases"]
    return (
        phases["prompt_seconds"] + phases["answer_seconds"],
        simulation.json["makespan_seconds"],
    )


@pytest.mark.parametrize(
    ("job", "place"),
    [
        # each job and each place once; the other six pairs are long
        pytest.param(job, place, marks=() if PLACES.index(place) == number else pytest.mark.long)
        for number, job in enumerate(JOBS)
        for place in PLACES
    ],
)
def test_they_differ_by_at_most_a_tenth(ask, done, job: str, place: tuple[str, str, str]) -> None:
    file = done(**JOBS[job])

    planned, simulated = both(ask, file, *place)

    # what `plan` prints is rounded to tenths of a second
    assert planned == pytest.approx(simulated, rel=0.10, abs=0.11)


def test_rows_that_equal_ones_answered_cost_neither_anything(ask, done) -> None:
    file = done(copies=100, **JOBS["labels"])

    planned, simulated = both(ask, file, *PLACES[0])

    assert planned == pytest.approx(simulated, rel=0.10)
    assert len(read_trace(Path("out")).rows) == ROWS - 100


def test_a_run_brings_its_prefix_and_says_so(ask, done) -> None:
    done(**JOBS["labels"])

    said = ask("simulate", "--trace", "out", "--model", "gemma-3-27b", "--gpu", "rtx3090").out

    shared = read_trace(Path("out")).shared_tokens
    assert shared > 200
    assert f"{shared:.0f} of a prompt shared" in said


def test_a_trace_that_says_nothing_of_prefixes_says_that(ask, done) -> None:
    done(facts=(), **JOBS["labels"])

    said = ask("simulate", "--trace", "out", "--model", "gemma-3-27b", "--gpu", "rtx3090").out

    assert "it does not say which prompts begin alike" in said


def test_what_runs_here_took_both_know(ask, done, tmp_path: Path) -> None:
    file = done(**JOBS["labels"])
    before = both(ask, file, *PLACES[0])
    plan = pipeline.plan(pipeline.load_job(file), fresh=True)
    workload = Workload("choices", ROWS, 270.0, 220.0, 1.0)
    run = MeasuredRun(workload, 1, 9.0, 60.0, 1.0)
    model = "gemma-3-27b int4 group 32"
    remember(ProfileEntry("2026-01-02", model, "rtx3090", "vllm", plan.template, run))

    after = both(ask, file, *PLACES[0])

    assert after[0] > 1.5 * before[0]
    assert after[0] == pytest.approx(after[1], rel=0.10)


def test_damaged_metadata_is_named(done, tmp_path: Path, ask) -> None:
    done(**JOBS["labels"])
    for file in Path("out").glob("*.parquet"):
        table = pq.read_table(file)
        pq.write_table(table.replace_schema_metadata({f"rackmill.{REQUESTS}": "{"}), file)

    with pytest.raises(UsageError, match="its metadata cannot be read"):
        read_trace(Path("out"))
