"""What is said of labels leads on by a command that can be pasted."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.report.trust.words import lines, review_command


def block(rows: int, gold_from: list[str]) -> dict[str, Any]:
    gold = {"rows": rows, "at_random": rows, "probabilities_known": True}
    return {"gold": gold, "gold_from": gold_from, "rows": 1000}


def test_without_any_right_answer_a_review_is_advised_and_nothing_else_said() -> None:
    assert lines(block(0, []), "out", "topic") == [
        "no right answer is known yet: rackmill review out --question topic --rows 100"
    ]


@pytest.mark.parametrize(("gold_from", "rows"), [(["reviews"], 150), (["sentiment"], 50)])
def test_more_rows_are_asked_about_than_were_reviewed(gold_from: list[str], rows: int) -> None:
    assert review_command(block(100, gold_from), "out", 50) == f"rackmill review out --rows {rows}"
