"""`rackmill init`: a job file that says what was found, and that `plan` takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli.try_out.init.new_job import TASKS, look
from pipeline.job.file.load import load_job
from tests.support.processes import Finished

Ask = Callable[..., Finished]


def write(folder: Path) -> None:
    rows = 12
    table = {
        "id": list(range(rows)),
        "source": ["web"] * rows,
        "body": [f"a text of some length, number {i}" for i in range(rows)],
        "topic": ["sport", 'politics: "x"', "no"] * 4,
    }
    pq.write_table(pa.table(table), folder / "news.parquet")


@pytest.mark.parametrize("task", TASKS)
def test_the_file_it_writes_can_be_planned(ask: Ask, tmp_path: Path, task: str) -> None:
    write(tmp_path)

    made = ask("init", "news.parquet", "--task", task)
    planned = ask("plan", "news.yaml", "--set", "engine.kind=simulated", "--json")

    assert (made.code, made.out) == (0, "news.yaml\n")
    assert planned.code == 0, planned.err


def test_columns_are_guessed_and_said(ask: Ask, tmp_path: Path) -> None:
    write(tmp_path)

    ended = ask("init", "news.parquet", "--task", "classify")

    label = load_job(tmp_path / "news.yaml").label
    assert label is not None
    assert label.choices == ("no", 'politics: "x"', "sport")
    assert label.gold_column == "topic"
    assert "rows are about  body" in ended.err


def test_what_is_said_goes_before_what_is_guessed(ask: Ask, tmp_path: Path) -> None:
    write(tmp_path)

    ask("init", "news.parquet", "--text", "source", "--choices", "a, b", "--job", "my.yaml")

    job = load_job(tmp_path / "my.yaml")
    assert job.prompt_fields == ("source",)
    assert job.label is not None
    assert (job.label.choices, job.label.gold_column) == (("a", "b"), None)


def test_a_file_that_is_there_stays(ask: Ask, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "news.yaml").write_text("mine")

    ended = ask("init", "news.parquet")

    assert (ended.code, (tmp_path / "news.yaml").read_text()) == (2, "mine")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "clasify"], "did you mean classify?"),
        (["--text", "bdy"], "did you mean body?"),
        (["--gold", "nope"], "columns: id, source, body, topic"),
    ],
)
def test_mistakes_are_told_with_the_right_word(
    ask: Ask, tmp_path: Path, arguments: list[str], said: str
) -> None:
    write(tmp_path)

    ended = ask("init", "news.parquet", *arguments)

    assert ended.code == 2
    assert said in ended.err


def test_many_values_or_long_ones_are_no_labels() -> None:
    table = pa.table(
        {"text": [f"t{i}" * 30 for i in range(30)], "name": [f"n{i}" for i in range(30)]}
    )

    assert look(table).gold is None
