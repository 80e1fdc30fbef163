"""Right answers to a predicate: a truth is one, however it is written, in a column or a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import job_from
from pipeline.errors import UsageError
from pipeline.job.answer.label import Gold
from pipeline.job.answer.questions import AskedQuestion
from pipeline.output.columns.gold import mismatch, names_of, truth
from pipeline.output.rows.gold_file import no_choices, read_gold_file
from tests.support.labelled import labelled
from tests.support.samples import BASE_JOB

WRITTEN = [
    pa.array([True, False, None]),
    pa.array([1, 0, None]),
    pa.array([1.0, 0.0, None]),
    *(
        pa.array([yes, no, None])
        for yes, no in (
            ("true", "false"), ("True", "False"), ("TRUE", "FALSE"), ("yes", "no"), ("Yes", "NO"),
            ("y", "N"), ("t", "f"), ("1", "0"), ("1.0", "0.0"),
        )
    ),
]  # fmt: skip


def asked(**gold: Any) -> AskedQuestion:
    questions = {"urgent": {"predicate": "Is it urgent?", **gold}}
    [one] = job_from(BASE_JOB | {"questions": questions}).asked
    return one


@pytest.mark.parametrize("written", WRITTEN, ids=str)
def test_every_way_to_write_it_is_known_in_a_column(written: pa.Array) -> None:
    names = names_of(asked(gold="truth").graded, pa.schema([("truth", written.type)]))

    assert [truth(value, names) for value in written.to_pylist()[:2]] == ["yes", "no"]


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("written", WRITTEN, ids=str)
def test_and_in_a_file(tmp_path: Path, written: pa.Array, ending: str) -> None:
    table = pa.table({"id": [1, 2, 3], "truth": written})
    path = tmp_path / f"gold.{ending}"
    if ending == "parquet":
        pq.write_table(table, path)
    elif ending == "csv":
        table.to_pandas().to_csv(path, index=False)
    else:
        table.to_pandas().to_json(path, orient="records", lines=True)

    found = read_gold_file(Gold(path=str(path), key="id", value="truth"), asked())

    assert found.answers == {"1": "yes", "2": "no"}


def test_others_are_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "gold.csv").write_text("id,truth\n1,ture\n2,yes\n3,maybe\n")
    gold = Gold(path=str(tmp_path / "gold.csv"), key="id", value="truth")

    with pytest.raises(UsageError) as caught:
        read_gold_file(gold, asked())

    assert "questions.urgent.gold" in caught.value.message
    assert "'ture' in 1 row (did you mean true?), 'maybe' in 1 row" in caught.value.message
    assert 'values: {ture: "yes", maybe: …}' in caught.value.hints[0]
    assert "(did you mean False?)" in no_choices(["Fales", "yes"], asked())[0]


def test_a_column_that_has_nothing_else_is_doubted() -> None:
    said, fix = mismatch(asked(gold="truth").graded, "questions.urgent.gold", {"ja", "nein"}) or (
        "",
        "",
    )

    assert "none of the choices" in said
    assert "questions: {urgent: {gold: {column: truth" in fix


def test_what_the_job_says_of_values_counts_first(tmp_path: Path) -> None:
    (tmp_path / "gold.csv").write_text("id,truth\n1,0\n2,1\n")
    turned = {"0": "yes", "1": "no"}
    gold = Gold(path=str(tmp_path / "gold.csv"), key="id", value="truth", values=turned)
    names = names_of(
        asked(gold={"column": "truth", "values": turned}).graded, pa.schema([("truth", pa.int64())])
    )

    assert read_gold_file(gold, asked()).answers == {"1": "yes", "2": "no"}
    assert [truth(value, names) for value in (0, 1)] == ["yes", "no"]


def test_a_run_is_calibrated_by_a_file_of_truths(tmp_path: Path) -> None:
    ids = list(range(0, 300, 5))
    table = pa.table({"id": ids, "truth": [row % 2 == 1 for row in ids]})
    pq.write_table(table, tmp_path / "gold.parquet")
    gold = {"path": str(tmp_path / "gold.parquet"), "key": "id", "value": "truth"}
    questions = {"urgent": {"predicate": "Is it urgent?", "gold": gold}}

    storage = labelled(tmp_path, 300, label=None, questions=questions)

    made = pq.read_table(tmp_path / "out").sort_by("id")
    right = [urgent == (row % 2 == 1) for row, urgent in enumerate(made["urgent"].to_pylist())]
    assert sum(right) > 290  # where both are as probable, the gold rows decide
    summary = json.loads(storage.read("_rackmill/summary.json") or b"")
    assert summary["trust"]["urgent"]["gold"]["at_random"] == len(ids)
    assert summary["trust"]["urgent"]["calibration"] is not None
