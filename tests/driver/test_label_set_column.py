"""Sets of possible labels in a column, where a job asks for them."""

from __future__ import annotations

from pathlib import Path

from pipeline.output.verify.dataset import verify
from tests.support.trusted import table_of, trusted, world


def test_the_right_label_is_in_the_set_but_for_the_share_that_is_allowed(tmp_path: Path) -> None:
    dataset = trusted(tmp_path, changes={"trust": {"label_sets": 0.1}})

    table, (truth, _) = table_of(dataset), world()
    pairs = list(zip(truth, table["label_set"].to_pylist(), strict=True))
    answered = [(right, found) for right, found in pairs if found is not None]
    missed = sum(right not in found for right, found in answered) / len(answered)
    assert len(answered) == table["label"].drop_null().length()
    assert missed <= 0.15  # 0.1, from 120 right answers
    assert verify(dataset.storage).faults == []


def test_without_right_answers_the_sets_are_null(tmp_path: Path) -> None:
    dataset = trusted(tmp_path, gold=None, rows=60, changes={"trust": {"label_sets": 0.1}})

    assert table_of(dataset)["label_set"].null_count == 60


def test_who_does_not_ask_for_them_has_no_column(tmp_path: Path) -> None:
    assert "label_set" not in table_of(trusted(tmp_path, rows=60)).column_names
