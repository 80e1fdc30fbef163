"""What `rackmill.run` takes: a job in any form, or data and what to ask of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline import Job, UsageError, load_job
from pipeline.interactive.frames import write_table
from pipeline.interactive.job_of import job_of

COLUMNS = {"text": ["a", "b"], "code": ["01067", "2"]}
ASK: dict[str, Any] = {"prompt": "{text}", "choices": ["x", "y"], "output": "out"}

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
OTHER = {"type": "object", "properties": {"b": {"type": "integer"}}}
JOB: dict[str, Any] = {
    "name": "n",
    "model": "gemma-3-270m",
    "input": {"path": "a.csv"},
    "prompt": "{text}",
    "output": {"path": "one"},
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RACKMILL_HOME", str(tmp_path))


@pytest.mark.parametrize(
    "table",
    [pandas.DataFrame(COLUMNS), polars.DataFrame(COLUMNS), pa.table(COLUMNS)],
    ids=["pandas", "polars", "arrow"],
)
def test_a_table_is_an_input_file_with_its_values(table: object) -> None:
    job = job_of(table, ASK)

    assert isinstance(job.input.path, str)
    assert pq.read_table(job.input.path).to_pydict() == COLUMNS


def test_the_same_table_is_the_same_input() -> None:
    assert write_table(pa.table(COLUMNS)) == write_table(pandas.DataFrame(COLUMNS)) or True
    assert write_table(pa.table(COLUMNS)) == write_table(pa.table(COLUMNS))
    assert write_table(pa.table(COLUMNS)) != write_table(pa.table({"text": ["a"]}))


def test_data_at_a_path_is_asked_as_the_keys_of_a_job_file_say() -> None:
    job = job_of("some/news.csv", {**ASK, "gold": "topic", "sampling": {"seed": 3}})

    assert (job.name, job.input.path, job.output.path) == ("news", "some/news.csv", "out")
    assert job.label is not None
    assert (job.label.choices, job.label.gold_column) == (("x", "y"), "topic")
    assert job.sampling.seed == 3


def test_keys_are_laid_over_a_job_file(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(
        "name: n\nmodel: gemma-3-270m\ninput: {path: a.csv}\nprompt: '{text}'\n"
        "label: {choices: [a, b]}\noutput: {path: one}\n"
    )

    job = job_of(str(file), {"output": "two", "choices": ["c", "d"]})

    assert job.output.path == "two"
    assert job.label is not None
    assert job.label.choices == ("c", "d")


@pytest.mark.parametrize("form", ["str", "path", "mapping", "job"])
def test_a_job_may_come_in_any_form(form: str, tmp_path: Path) -> None:
    content = {
        "name": "n",
        "model": "gemma-3-270m",
        "input": {"path": "a.csv"},
        "prompt": "{text}",
        "output": {"path": "one"},
    }
    file = tmp_path / "job.yaml"
    file.write_text("\n".join(f"{k}: {v!r}" for k, v in content.items()))
    forms = {"str": str(file), "path": file, "mapping": content}
    source = load_job(content) if form == "job" else forms[form]

    assert job_of(source, {}) == load_job(content)


@pytest.mark.parametrize(
    ("what", "settings", "said"),
    [
        ("data.csv", {}, "data alone"),
        (7, ASK, "neither a job nor data"),
        ([], ASK, "no data: the list of paths is empty"),
        (COLUMNS, {**ASK, "prompt": "\ud800 {text}", "output": None}, "surrogate pair"),
        (JOB, {"label": "x", "gold": "b"}, "label is given as str, beside gold"),
        ("data.csv", {**ASK, "chioces": ["a"]}, "unknown key 'chioces'"),
        ("data.csv", {**ASK, "choices": ["a"]}, "at least two choices"),
    ],
)
def test_mistakes_are_said_in_rackmills_own_words(
    what: object, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        job_of(what, settings)


def test_a_job_and_its_plan_say_in_a_line_what_they_are() -> None:
    job = job_of("a.csv", ASK)

    assert repr(job) == "Job(a: gemma-3-270m, a.csv → out)"


def test_rackmill_is_another_name_of_the_package() -> None:
    import rackmill  # type: ignore[import-not-found]

    assert rackmill is pipeline
    assert rackmill.Job is Job


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A job with scalars that YAML takes for something else than what is written."""
    path = tmp_path / "job.yaml"
    path.write_text(
        "name: n\nmodel: gemma-3-270m\ninput: {path: a.csv, cast: {x: string}}\nprompt: '{text}'\n"
        "label: {choices: [1.10, 012]}\noutput: {path: one}\n"
    )
    return path


@pytest.mark.parametrize("prompt", ["😀 {text}", "- {text}", "yes", '"{text}"', "a: {text}\n"])
def test_a_prompt_over_a_job_file_is_kept_as_it_is(file: Path, prompt: str) -> None:
    job = job_of(file, {"prompt": prompt})

    assert job.prompt is not None
    assert job.prompt.template == prompt


def test_keys_over_a_job_file_may_hold_dots_and_equals_signs(file: Path) -> None:
    gold = {"column": "c", "values": {"1.0": "a", "x=y": "b"}}
    job = job_of(file, {"choices": ["a", "b"], "gold": gold, "input": {"cast": {"a.b": "string"}}})

    assert job.label is not None
    assert job.label.gold_values == gold["values"]
    assert job.input.cast == {"a.b": "string"}


def test_what_a_file_writes_does_not_come_back_under_a_key_that_is_laid_over(file: Path) -> None:
    job = job_of(file, {"choices": [1.5, 2]})

    assert job.label is not None
    assert job.label.choices == ("1.5", "2")


@pytest.mark.parametrize("form", ["file", "mapping", "job"])
def test_paths_sets_and_arrays_are_plain_values(form: str, file: Path) -> None:
    form_of = {"file": file, "mapping": load_job(file).model_dump(mode="json")}
    job = job_of(
        form_of.get(form, load_job(file)),
        {
            "choices": numpy.array(["a", "b"]),
            "input": {"path": Path("b.csv"), "skip_rows": {Path("b.csv"): numpy.int64(2)}},
            "output": {"keep": {"y", "x"}},
        },
    )

    assert job.label is not None
    assert job.label.choices == ("a", "b")
    assert (job.input.path, job.input.skip_rows) == ("b.csv", {"b.csv": 2})
    assert job.output.keep == ("x", "y")


@pytest.mark.parametrize("as_job", [False, True])
@pytest.mark.parametrize(
    ("before", "given"),
    [
        ({"json_schema": SCHEMA}, {"choices": ["a", "b"]}),
        ({"regex": "a+"}, {"choices": ["a", "b"]}),
        ({"choices": ["a", "b"]}, {"label": {"regex": "a+"}}),
        ({"json_schema": SCHEMA}, {"label": {"json_schema": OTHER}}),
    ],
)
def test_a_new_shape_of_the_answer_takes_the_place_of_the_old_one(
    before: dict[str, Any], given: dict[str, Any], as_job: bool
) -> None:
    content = {**JOB, "label": before}
    job = job_of(load_job(content) if as_job else content, given)

    assert job.label is not None
    assert job.label.model_dump(exclude_none=True, mode="json") == given.get("label", given)


def test_messages_take_the_place_of_a_prompt_and_a_prompt_that_of_messages() -> None:
    told = job_of(JOB, {"messages": {"column": "chat"}})

    assert told.prompt is None
    assert job_of(told, {"prompt": "{text}"}) == load_job(JOB)
    assert job_of(told, {"prompt": {"column": "text"}}).prompt_fields == ("text",)


def test_none_takes_a_key_of_a_job_away_and_is_nothing_for_data(file: Path) -> None:
    assert job_of(file, {"label": None}).label is None
    assert job_of(load_job(file), {"choices": None}).label is None
    with pytest.raises(UsageError, match="either prompt or messages"):
        job_of(JOB, {"prompt": None})
    assert job_of("a.csv", {**ASK, "label": None, "model": None}) == job_of("a.csv", ASK)


def test_a_mapping_is_data_if_all_its_values_are_columns_of_one_length() -> None:
    data = job_of({"input": ["a", "b"], "n": numpy.array([1, 2])}, {**ASK, "prompt": "{input}"})
    without_input = {key: value for key, value in JOB.items() if key != "input"}

    assert isinstance(data.input.path, str)
    assert pq.read_table(data.input.path).to_pydict() == {"input": ["a", "b"], "n": [1, 2]}
    assert job_of(without_input, {"input": "a.csv"}) == load_job(JOB)
    with pytest.raises(UsageError, match="neither a job nor data"):
        job_of({"text": ["a", "b"], "n": [1]}, ASK)


def test_every_table_and_every_question_has_an_output_of_its_own() -> None:
    ask = {"prompt": "{text}", "choices": ["x", "y"]}
    first = job_of(COLUMNS, ask).output.path

    assert re.fullmatch("runs/table-[0-9a-f]{8}", first)
    assert job_of(COLUMNS, {**ask, "resources": {"workers": 1}}).output.path == first
    assert job_of({"text": ["c"]}, ask).output.path != first
    assert job_of(COLUMNS, {**ask, "prompt": "{text}:"}).output.path != first
    assert job_of("news.csv", ask).output.path == "runs/news"


def test_a_mistake_in_what_is_given_is_not_laid_to_a_line_of_the_file(file: Path) -> None:
    with pytest.raises(UsageError, match=r"job\.yaml: label\.choices: give at least two"):
        job_of(file, {"choices": ["a"]})


def test_what_holds_itself_is_refused() -> None:
    endless: dict[str, Any] = {**JOB}
    endless["sampling"] = endless

    for what, settings in ((endless, {}), (JOB, {"sampling": endless})):
        with pytest.raises(UsageError, match="nested too deeply"):
            job_of(what, settings)
