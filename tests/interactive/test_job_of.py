"""What `rackmill.run` takes: a job in any form, or data and what to ask of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
