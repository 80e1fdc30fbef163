"""A finished output with labels or other answers, as a job leaves it, without an engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import Job
from pipeline.driver.conclude import RunOutcome, conclude
from pipeline.errors import RowError, RowErrorType
from pipeline.input.reader import UnitReader
from pipeline.output.columns.results import RowResult, tally, to_table
from pipeline.storage.base import Storage, open_storage
from tests.support.datasets import begin, job_in

CHOICES = ("bad", "good")


def choice(row: int) -> str:
    """What the model says of a row: in turns."""
    return CHOICES[row % 2]


def confidence(row: int) -> float:
    """How sure it is: from 0.5 up to 1, in no order."""
    return 0.5 + (row * 37 % 101) / 202


def _probabilities(row: int, choices: int) -> tuple[float, ...]:
    rest = (1 - confidence(row)) / (choices - 1)
    return tuple(confidence(row) if c == row % choices else rest for c in range(choices))


def _answer(row: int, choices: Sequence[str]) -> RowResult:
    return RowResult(
        completion=choices[row % len(choices)],
        label=choices[row % len(choices)],
        confidence=confidence(row),
        probabilities=_probabilities(row, len(choices)),
        finish_reason="stop",
        prompt_tokens=5,
        completion_tokens=1,
    )


def _result(row: int, made: Job) -> RowResult:
    if made.label is not None:
        return _answer(row, made.label.options)
    answers = tuple(_answer(row, one.choices) for one in made.asked)
    return RowResult(answers=answers, prompt_tokens=5, completion_tokens=len(answers))


def with_questions(folder: Path, rows: int) -> Storage:
    """The same with two questions for each row: its mood, and whether it is urgent."""
    questions = {
        "mood": {"ask": "Mood:", "choices": list(CHOICES)},
        "urgent": {"predicate": "Is it urgent?"},
    }
    return labelled(folder, rows, label=None, questions=questions)


def answered(
    folder: Path, output: str, answer: Callable[[int], str], rows: int = 60, **changes: Any
) -> Storage:
    """The same with free text: what ``answer`` says of each row."""

    def result(row: int, _: Job) -> RowResult:
        return RowResult(answer(row), finish_reason="stop", prompt_tokens=5, completion_tokens=1)

    return labelled(folder, rows, output=output, label=None, result=result, **changes)


def labelled(
    folder: Path,
    rows: int = 300,
    *,
    texts: Sequence[str] | None = None,
    gold: Callable[[int], str | None] | None = None,
    fails: Callable[[int], bool] = lambda row: False,
    choices: Sequence[str] = CHOICES,
    output: str = "out",
    file: str = "a.parquet",
    keep: Sequence[str] | None = None,
    finished: bool = True,
    result: Callable[[int, Job], RowResult] = _result,
    **changes: Any,
) -> Storage:
    """``rows`` rows in one file, labelled. ``gold``: the right answer of a row, for a column.
    ``result``: of a row, in place of labels."""
    (folder / "rows").mkdir(parents=True, exist_ok=True)
    columns: dict[str, Any] = {"id": list(range(rows))}
    columns["text"] = list(texts) if texts is not None else [f"text {i}" for i in range(rows)]
    label: dict[str, Any] = {"choices": list(choices)}
    if gold is not None:
        columns["truth"] = pa.array([gold(i) for i in range(rows)], pa.string())
        label["gold"] = "truth"
    pq.write_table(pa.table(columns), folder / "rows" / file)
    address = output if "://" in output else str(folder / output)
    made = job_in(folder, **({"label": label, "output": {"path": address, "keep": keep}} | changes))
    plan, dataset = begin(made)
    reader = UnitReader(plan.input.files.shards, plan.input.files.schema)
    failed = RowResult(error=RowError(RowErrorType.TIMEOUT, "not finished", 1), prompt_tokens=5)
    for unit in plan.missing[: None if finished else 1]:
        table = reader.read(unit).table
        results = [failed if fails(row) else result(row, made) for row in table["id"].to_pylist()]
        columns_ = plan.input.columns
        dataset.commit(
            unit, to_table(table, results, columns_), tally(table, results, columns_), {}
        )
    reader.close()
    if finished:
        conclude(plan, dataset, RunOutcome(), time.time())
    return open_storage(address)
