"""Input without rows is a success: an empty dataset with the columns that a full one would have."""

from __future__ import annotations

from pathlib import Path

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

_JOB = """\
name: nothing
model: gemma-3-270m
input: {{path: {path}}}
prompt: "Tweet: {{text}}"
label: {label}
output: {{path: out}}
"""
_CHOICES = "{choices: [negative, positive]}"
_SCHEMA = "{json_schema: {type: object, properties: {stars: {type: integer}}}}"
_JSON_KEYS = {
    "rows",
    "succeeded",
    "failed",
    "reused",
    "prompt_tokens",
    "completion_tokens",
    "seconds",
    "rows_per_second",
    "completion_tokens_per_second",
    "preemptions",
    "output",
}


def _write_empty(folder: Path, name: str) -> None:
    path = folder / name
    if name.endswith(".parquet"):
        pq.write_table(
            pa.table({"id": pa.array([], "int64"), "text": pa.array([], "string")}), path
        )
    else:
        path.write_text("id,text\n" if name == "header.csv" else "")


def _run(ask, folder: Path, name: str, label: str = _CHOICES, *arguments: str):
    _write_empty(folder, name)
    (folder / "job.yaml").write_text(_JOB.format(path=name, label=label))
    return ask("run", "job.yaml", *arguments)


@pytest.mark.parametrize("name", ["none.parquet", "header.csv", "none.csv", "none.jsonl"])
def test_empty_input_is_a_success_without_an_engine(name: str, ask, tmp_path: Path) -> None:
    result = _run(ask, tmp_path, name)
    assert result.code == 0, result.err
    assert (tmp_path / "out/_SUCCESS").exists()


@pytest.mark.parametrize("name", ["none.parquet", "header.csv"])
def test_pandas_opens_the_empty_dataset_with_its_columns(name: str, ask, tmp_path: Path) -> None:
    _run(ask, tmp_path, name)
    frame = pandas.read_parquet(tmp_path / "out")
    assert list(frame.columns) == [
        "id",
        "text",
        "completion",
        "label",
        "confidence",
        "accepted",
        "raw_confidence",
        "probabilities",
        "finish_reason",
        "prompt_tokens",
        "completion_tokens",
        "error",
    ]
    assert len(frame) == 0


def test_the_empty_dataset_has_the_types_of_a_full_one(ask, tmp_path: Path, read_output) -> None:
    _run(ask, tmp_path, "none.parquet", _SCHEMA)
    schema = read_output(tmp_path / "out").schema
    assert schema.field("id").type == pa.int64()
    assert schema.field("stars").type == pa.int64()
    assert schema.field("completion").type == pa.string()
    assert pa.types.is_struct(schema.field("error").type)


def test_json_is_one_object_with_the_promised_keys(ask, tmp_path: Path) -> None:
    facts = _run(ask, tmp_path, "none.parquet", _CHOICES, "--json").json
    assert set(facts) >= _JSON_KEYS
    assert (facts["rows"], facts["succeeded"], facts["failed"], facts["reused"]) == (0, 0, 0, 0)
    assert facts["output"] == "out"


def test_a_second_run_on_empty_input_is_a_success_too(ask, tmp_path: Path) -> None:
    _run(ask, tmp_path, "none.parquet")
    files = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert ask("run", "job.yaml").code == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == files


def test_plan_of_empty_input_counts_no_rows(ask, tmp_path: Path) -> None:
    _write_empty(tmp_path, "none.parquet")
    (tmp_path / "job.yaml").write_text(_JOB.format(path="none.parquet", label=_CHOICES))
    facts = ask("plan", "job.yaml", "--json").json
    assert (facts["rows"], facts["prompt_tokens"], facts["sampled_rows"]) == (0, 0, 0)


def test_summary_and_report_are_written_for_empty_input(ask, tmp_path: Path) -> None:
    _run(ask, tmp_path, "none.parquet")
    assert (tmp_path / "out/_rackmill/summary.json").exists()
    assert (tmp_path / "out/_rackmill/report.md").read_text().startswith("# nothing")
