"""Formats, shapes of answers and row errors through real workers, driven from Python: several
jobs after each other in one process, on a Ray that was there before."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.ray

_DRIVER = """
import json, sys
from pathlib import Path
from pipeline import Job, plan, run
from pipeline.driver.run import RunOptions

address, *names = sys.argv[1:]
facts = {}
for name in names:
    job = Job.model_validate_json(Path(f"{name}.json").read_text())
    rows = plan(job).input.rows
    summary = run(job, RunOptions(address=address))
    facts[name] = summary.as_json() | {"planned": rows, "exit_code": summary.exit_code}
Path("facts.json").write_text(json.dumps(facts))
"""
_SIMULATED = {"kind": "simulated"}
_SCHEMA = {
    "type": "object",
    "properties": {
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        "mood": {"enum": ["glad", "sad"]},
        "score": {"type": "number"},
        "urgent": {"type": "boolean"},
        "topics": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["stars", "mood", "score", "urgent", "topics"],
}
_REGEX = r"[A-Z]{2}-\d{3}"
_GOOD_ROWS = 300
# the last one overflows in vLLM's step, where it would take every row with it
_PARAMETERS = [
    '{"max_tokens": 12}',
    None,
    '{"max_tokens": "some"}',
    "{oops",
    f'{{"seed": {1 << 70}}}',
]

# line of the JSONL file -> the error it must become
_LINES = {
    "null text": ('{"id": 1, "text": null}', "InvalidRow"),
    "no text": ('{"id": 2}', "InvalidRow"),
    "malformed line": ('{"id": 3, "text": "a', "InvalidRow"),
    "no object": ("[4]", "InvalidRow"),
    "text is too large a number": ('{"id": 5, "text": 1e999}', "InvalidRow"),
    "too long": (json.dumps({"id": 6, "text": "word " * 400}), "PromptTooLong"),
    "max_tokens 0": (
        '{"id": 7, "text": "a", "sampling_params": {"max_tokens": 0}}',
        "InvalidSampling",
    ),
    "unknown parameter": (
        '{"id": 8, "text": "a", "sampling_params": {"temprature": 1}}',
        "InvalidSampling",
    ),
}


def _jsonl(folder: Path) -> dict[str, Any]:
    lines = [line for line, _ in _LINES.values()]
    lines.append("")  # a blank line is no row
    lines.append('{"id": 9, "text": "a few words", "sampling_params": {"max_tokens": 2}}')
    lines += [json.dumps({"id": 100 + i, "text": f"tweet {i}"}) for i in range(_GOOD_ROWS)]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return {
        "input": {"path": str(folder / "rows.jsonl")},
        "prompt": "Continue: {text}",
        "sampling": {"max_tokens": 8},
        "engine": _SIMULATED | {"max_model_len": 64},
    }


_CELLS = ['said "so"', "one, two", "two\nlines", "ünïcödé 🙂", "  spaces  ", ""]


def _csv(folder: Path) -> dict[str, Any]:
    lines = ["id,text"]
    lines += [f'{i},"{cell.replace(chr(34), chr(34) * 2)}"' for i, cell in enumerate(_CELLS)]
    lines.append(f"{len(_CELLS)},")  # nothing between the commas is null, "" is empty text
    lines += [f"{i},tweet {i}" for i in range(len(_CELLS) + 1, _GOOD_ROWS)]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    return {
        "input": {"path": str(folder / "rows.csv")},
        "prompt": "Tweet: {text}\nSentiment:",
        "label": {"choices": ["negative", "positive"]},
    }


def _json_schema(folder: Path) -> dict[str, Any]:
    pq.write_table(_tweets(), folder / "json.parquet")
    return {
        "input": {"path": str(folder / "json.parquet")},
        "prompt": "Tweet: {text}\nJSON:",
        "label": {"json_schema": _SCHEMA},
        "sampling": {"max_tokens": 40},
    }


def _regex(folder: Path) -> dict[str, Any]:
    table = _tweets().append_column("sampling_params", pa.array(_PARAMETERS * (_GOOD_ROWS // 5)))
    pq.write_table(table, folder / "regex.parquet")
    return {
        "input": {"path": str(folder / "regex.parquet")},
        "prompt": {"jinja": "{{ text | upper }}\nCode: "},
        "label": {"regex": _REGEX},
        "output": {"path": str(folder / "regex"), "keep": ["id"]},
    }


def _tweets() -> pa.Table:
    ids = list(range(_GOOD_ROWS))
    return pa.table({"id": ids, "text": [f"tweet {i}" for i in ids]})


_JOBS = {"jsonl": _jsonl, "csv": _csv, "json": _json_schema, "regex": _regex}


@dataclass(frozen=True)
class Results:
    """What each job came to: its facts, and its dataset."""

    facts: dict[str, dict[str, Any]]
    tables: dict[str, pa.Table]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, launcher, shared_ray, read_output) -> Results:
    folder = tmp_path_factory.mktemp("shapes")
    for name, make in _JOBS.items():
        job = {
            "name": name,
            "model": "gemma-3-270m",
            "output": {"path": str(folder / name)},
            "engine": _SIMULATED,
        }
        (folder / f"{name}.json").write_text(json.dumps(job | make(folder)))
    finished = launcher.python(
        "-c", _DRIVER, shared_ray.address, *_JOBS, cwd=folder, **shared_ray.environment
    )
    assert finished.code == 0, finished.err
    facts = json.loads((folder / "facts.json").read_text())
    return Results(facts, {name: read_output(folder / name) for name in _JOBS})


def _errors(table: pa.Table) -> list[str | None]:
    return [error and error["type"] for error in table["error"].to_pylist()]


@pytest.mark.parametrize("name", _JOBS)
def test_run_does_the_rows_that_plan_counted(name: str, results: Results) -> None:
    facts = results.facts[name]
    assert facts["planned"] == facts["rows"] == len(results.tables[name])


@pytest.mark.parametrize("name", _JOBS)
def test_succeeded_and_failed_add_up_to_rows(name: str, results: Results) -> None:
    facts = results.facts[name]
    assert facts["succeeded"] + facts["failed"] == facts["rows"]
    assert facts["failed"] == sum(e is not None for e in _errors(results.tables[name]))


@pytest.mark.parametrize("name", ["csv", "json", "regex"])
def test_every_row_is_there_once_and_in_input_order(name: str, results: Results) -> None:
    assert results.tables[name]["id"].to_pylist() == list(range(_GOOD_ROWS))


@pytest.mark.parametrize("name", _JOBS)
def test_a_row_has_a_completion_or_an_error(name: str, results: Results) -> None:
    for row in results.tables[name].to_pylist():
        assert (row["completion"] is None) == (row["error"] is not None), row


@pytest.mark.parametrize("name", _JOBS)
def test_every_error_has_a_message(name: str, results: Results) -> None:
    for error in results.tables[name]["error"].to_pylist():
        assert error is None or error["message"]


@pytest.mark.parametrize("name", _JOBS)
def test_a_row_that_no_engine_saw_had_no_attempt(name: str, results: Results) -> None:
    for error in results.tables[name]["error"].to_pylist():
        assert error is None or error["attempts"] == 0


@pytest.mark.parametrize("trouble", _LINES)
def test_row_level_trouble_becomes_an_error_row_of_its_kind(trouble: str, results: Results) -> None:
    position = list(_LINES).index(trouble)
    assert _errors(results.tables["jsonl"])[position] == _LINES[trouble][1]


def test_the_rest_goes_on(results: Results) -> None:
    assert _errors(results.tables["jsonl"])[len(_LINES) :] == [None] * (_GOOD_ROWS + 1)


def test_jsonl_rows_stay_in_input_order(results: Results) -> None:
    ids = results.tables["jsonl"]["id"].to_pylist()
    assert ids[len(_LINES) :] == [9, *range(100, 100 + _GOOD_ROWS)]


def test_a_malformed_line_is_a_row_of_nulls(results: Results) -> None:
    row = results.tables["jsonl"].to_pylist()[list(_LINES).index("malformed line")]
    assert (row["id"], row["text"], row["completion"]) == (None, None, None)


def test_an_error_names_the_field_and_the_nearest_parameter(results: Results) -> None:
    errors = results.tables["jsonl"]["error"].to_pylist()
    assert "'text'" in errors[list(_LINES).index("null text")]["message"]
    assert "temperature" in errors[list(_LINES).index("unknown parameter")]["message"]


def test_a_prompt_too_long_says_how_long_and_what_the_context_is(results: Results) -> None:
    error = results.tables["jsonl"]["error"].to_pylist()[list(_LINES).index("too long")]
    assert re.search(r"\b4\d\d tokens.*\b64\b", error["message"])


def test_error_rows_make_exit_code_3(results: Results) -> None:
    assert results.facts["jsonl"]["exit_code"] == 3


def test_no_error_rows_make_exit_code_0(results: Results) -> None:
    assert results.facts["json"]["exit_code"] == 0


def test_kinds_of_errors_are_counted(results: Results) -> None:
    counts = {"InvalidRow": 5, "PromptTooLong": 1, "InvalidSampling": 2}
    assert results.facts["jsonl"]["errors"] == counts


def test_a_rows_own_max_tokens_holds_for_that_row(results: Results) -> None:
    row = results.tables["jsonl"].to_pylist()[len(_LINES)]
    assert 1 <= row["completion_tokens"] <= 2


def test_free_text_stops_at_max_tokens(results: Results) -> None:
    lengths = results.tables["jsonl"]["completion_tokens"].to_pylist()
    assert max(lengths) <= 8


def test_free_text_has_no_label_column(results: Results) -> None:
    assert "label" not in results.tables["jsonl"].column_names


def test_csv_cells_arrive_as_they_are(results: Results) -> None:
    assert results.tables["csv"]["text"].to_pylist()[: len(_CELLS)] == _CELLS


def test_csv_columns_of_numbers_are_numbers(results: Results) -> None:
    assert results.tables["csv"].schema.field("id").type == pa.int64()


def test_an_empty_csv_cell_is_null_and_an_error_row(results: Results) -> None:
    errors = _errors(results.tables["csv"])
    assert errors[len(_CELLS)] == "InvalidRow"
    assert sum(e is not None for e in errors) == 1


def test_json_fields_are_typed_columns(results: Results) -> None:
    schema = results.tables["json"].schema
    assert {name: schema.field(name).type for name in _SCHEMA["properties"]} == {
        "stars": pa.int64(),
        "mood": pa.string(),
        "score": pa.float64(),
        "urgent": pa.bool_(),
        "topics": pa.list_(pa.string()),
    }


def test_json_fields_are_what_the_completion_says(results: Results) -> None:
    for row in results.tables["json"].to_pylist():
        assert json.loads(row["completion"]) == {n: row[n] for n in _SCHEMA["properties"]}


def test_json_fields_keep_to_the_schema(results: Results) -> None:
    table = results.tables["json"]
    assert set(table["stars"].to_pylist()) <= {1, 2, 3, 4, 5}
    assert set(table["mood"].to_pylist()) == {"glad", "sad"}


def test_completions_match_the_regex(results: Results) -> None:
    completions = [c for c in results.tables["regex"]["completion"].to_pylist() if c is not None]
    assert completions
    assert all(re.fullmatch(_REGEX, c) for c in completions)


def test_sampling_parameters_may_be_json_text(results: Results) -> None:
    """A column of text: an object or null is fine, a wrong value and no JSON are error rows."""
    kinds = [None, None, *["InvalidSampling"] * 3]
    assert _errors(results.tables["regex"]) == kinds * (_GOOD_ROWS // 5)


def test_keep_leaves_the_other_columns_out(results: Results) -> None:
    assert results.tables["regex"].column_names[:2] == ["id", "completion"]


def test_without_keep_all_columns_are_carried_along(results: Results) -> None:
    assert results.tables["jsonl"].column_names[:3] == ["id", "text", "sampling_params"]
