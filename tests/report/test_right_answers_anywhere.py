"""Wrong rows and comparisons: alike wherever right answers lie, in a column, a file or reviews."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.output.reviews.answers import ReviewAnswers, ReviewerAnswer
from pipeline.output.reviews.question import question_of
from pipeline.output.reviews.samples import sample_for
from pipeline.output.rows.stored_rows import ROW, StoredRows
from pipeline.report.comparison.comparison import compare_outputs, compare_questions
from pipeline.report.page.page import rows_to_show
from pipeline.report.selection import Selection, rows
from pipeline.storage.base import open_storage
from tests.support.labelled import choice, labelled, with_questions

ROWS = 60
KNOWN = range(0, ROWS, 3)  # rows whose right answer is known
WRONG = [row for row in KNOWN if row % 5 == 0]


def truth(row: int) -> str:
    """Another answer than the model's in every fifth row."""
    return choice(row + 1) if row % 5 == 0 else choice(row)


def gold_file(folder: Path, answer: Callable[[int], str] = truth) -> dict[str, str]:
    lines = [f"{row},{answer(row)}" for row in KNOWN]
    (folder / "gold.csv").write_text("\n".join(["id,answer", *lines]) + "\n")
    return {"path": str(folder / "gold.csv"), "key": "id", "value": "answer"}


def in_column(folder: Path) -> str:
    known = {row: truth(row) for row in KNOWN}
    return labelled(folder, ROWS, gold=known.get, trust={"calibrate": "off"}).address()


def in_file(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    label = {"choices": ["bad", "good"], "gold": gold_file(folder)}
    return labelled(folder, ROWS, label=label, trust={"calibrate": "off"}).address()


def in_reviews(folder: Path) -> str:
    storage = labelled(folder, ROWS)
    _review(storage.address(), "label", truth)
    return storage.address()


def _review(output: str, question: str, answer: Callable[[int], str]) -> None:
    """Somebody answers of all rows those that are ``KNOWN``."""
    stored = StoredRows(output)
    storage = open_storage(output)
    sample = sample_for(storage, stored, question_of(stored, question), ROWS)
    reviews = ReviewAnswers(storage)
    for row in sample.rows:
        value = answer(row.row) if row.row in KNOWN else None
        reviews.append("ann", ReviewerAnswer(question, row.shard, row.row, value, "2026"))


@pytest.fixture(params=[in_column, in_file, in_reviews])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param(tmp_path / "one"))


def test_wrong_rows_are_found(output: str) -> None:
    stored = StoredRows(output)

    assert [row[ROW] for row in rows(stored, Selection(wrong=True))] == WRONG
    assert [row[ROW] for row in rows_to_show(stored)[0].rows] == WRONG[:10]


def test_show_marks_each_row(output: str, ask: Any) -> None:
    lines = ask("show", output, "--rows", 10).out.splitlines()

    marks = {int(line.split()[0]): line.split()[1] for line in lines[:10]}
    assert marks == {
        row: ("✗" if row in WRONG else "✓") if row in KNOWN else choice(row) for row in range(10)
    }
    assert [line for line in lines if "gold: good" in line]


def test_outputs_are_compared_by_them(output: str, tmp_path: Path) -> None:
    """The other output has no right answers of its own."""
    other = labelled(
        tmp_path / "one", ROWS, output="other", label={"choices": ["bad", "good"]}
    ).address()
    for pair in ((output, other), (other, output)):
        found = compare_outputs(*map(StoredRows, pair), keep=0)

        assert (found.graded, found.first_right) == (len(KNOWN), len(KNOWN) - len(WRONG))
        assert found.same == ROWS


class TestQuestions:
    @pytest.fixture
    def output(self, tmp_path: Path) -> str:
        """The mood's right answers are in a file, whether it is urgent people said."""
        questions = {
            "mood": {"ask": "Mood:", "choices": ["bad", "good"], "gold": gold_file(tmp_path)},
            "urgent": {"predicate": "Is it urgent?"},
        }
        stored = labelled(
            tmp_path, ROWS, label=None, questions=questions, trust={"calibrate": "off"}
        )
        _review(stored.address(), "urgent", lambda row: "yes")
        return stored.address()

    def test_each_has_its_own(self, output: str) -> None:
        compared = compare_questions(StoredRows(output), StoredRows(output))
        urgent = sum(row % 2 == 1 for row in KNOWN)

        assert compared["mood"].first_right == len(KNOWN) - len(WRONG)
        assert (compared["urgent"].graded, compared["urgent"].first_right) == (len(KNOWN), urgent)

    def test_a_row_is_wrong_where_one_answer_is(self, output: str, ask: Any) -> None:
        wrong = rows(StoredRows(output), Selection(wrong=True))
        told = ask("show", output, "--wrong", "--rows", 2).out

        assert [row[ROW] for row in wrong] == [r for r in KNOWN if r in WRONG or r % 2 == 0]
        assert "gold: mood good, urgent yes" in told


def test_what_the_job_names_counts_before_reviews(tmp_path: Path) -> None:
    output = in_file(tmp_path)
    _review(output, "label", lambda row: choice(row))

    assert [row[ROW] for row in rows(StoredRows(output), Selection(wrong=True))] == WRONG


def test_a_file_that_is_gone_is_named_and_the_rows_are_shown(tmp_path: Path, ask: Any) -> None:
    output = in_file(tmp_path)
    os.remove(tmp_path / "gold.csv")

    with pytest.raises(UsageError, match=r"gold\.csv"):
        rows(StoredRows(output), Selection(wrong=True))
    assert ask("show", output).code == 0
    compared = ask("compare", output, output)
    assert compared.code == 0
    assert "some right answers are not known: label.gold" in compared.err
    assert "gold.csv" in compared.err
    assert rows_to_show(StoredRows(output))[0].rows == []


def test_without_any_it_says_where_they_may_be(tmp_path: Path) -> None:
    output = with_questions(tmp_path, 20).address()

    with pytest.raises(UsageError) as caught:
        rows(StoredRows(output), Selection(wrong=True))
    assert "rackmill review" in " ".join(caught.value.hints)
    assert "--gold" in " ".join(caught.value.hints)
