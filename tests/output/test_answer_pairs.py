"""Answers of several outputs to the same rows, two and two."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.output.rows.answer_pairs import answer_pairs, drawn_pairs, outputs_to_compare
from pipeline.output.rows.stored_rows import StoredRows
from tests.support.labelled import answered

pytestmark = pytest.mark.usefixtures("large_units")


@pytest.fixture
def stored(tmp_path: Path) -> list[StoredRows]:
    """Of 300 rows; one output has no answer to the first ten, another none to the last ten."""
    answered(tmp_path, "a", lambda row: f"a {row}", rows=300, fails=lambda row: row < 10)
    answered(tmp_path, "b", lambda row: f"b {row}", rows=300, fails=lambda row: row >= 290)
    return outputs_to_compare([str(tmp_path / name) for name in "ab"])


def test_rows_that_all_have_answered_come_in_their_order(stored: list[StoredRows]) -> None:
    pairs = answer_pairs(stored)
    assert [pair.place[1] for pair in pairs] == list(range(10, 290))
    assert [pair.row for pair in pairs] == list(range(280))
    assert all(
        (pair.answers, pair.question) == ((f"a {n}", f"b {n}"), f"text {n}")
        for n, pair in enumerate(pairs, 10)
    )


def test_some_that_are_drawn_are_the_first_of_all_in_the_order_of_drawing(
    stored: list[StoredRows],
) -> None:
    every = [pair for row in drawn_pairs(stored, 3) for pair in row]
    assert len(every) == 280
    assert [pair.row for pair in every] == list(range(280))
    assert sorted(pair.place[1] for pair in every) == list(range(10, 290))
    assert answer_pairs(stored, 25) == every[:25]


def test_rows_are_read_as_they_are_asked_for(stored: list[StoredRows], tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(299)] + ["another"]
    answered(tmp_path / "c", "out", lambda row: f"c {row}", rows=300, texts=texts)
    others = [stored[0], StoredRows(str(tmp_path / "c/out"))]
    rows = drawn_pairs(others, 3)
    read = [next(rows) for _ in range(3)]
    assert all(pair.differs for row in read for pair in row)
    with pytest.raises(UsageError, match=r"row 299 of .*a\.parquet has another text"):
        list(rows)
