"""The history of a schedule has every question of its rows."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.report.history import PastRun, draw_labels, history_page


def summary(**questions: dict[str, int]) -> dict[str, Any]:
    facts = {"rows": 100, "failed": 0, "rows_per_second": 1.0, "labels": {}}
    return facts | {"questions": {q: {"labels": labels} for q, labels in questions.items()}}


def past() -> list[PastRun]:
    one = PastRun.of("one", summary(mood={"good": 50, "bad": 50}, urgent={"yes": 10, "no": 90}), [])
    two = summary(mood={"good": 50, "bad": 50}, urgent={"yes": 40, "no": 60})
    return [one, PastRun.of("two", two, [one])]


def test_drift_is_that_of_the_question_that_drifts_most() -> None:
    one, two = past()

    assert one.drift is None
    assert two.drift == pytest.approx(0.3)
    assert "| two | 100 | 0 | 1.0 |  | 0.300 |" in history_page("job", [one, two], None)


def test_each_question_is_drawn() -> None:
    of_two = draw_labels(past())
    labels = {"rows": 9, "failed": 0, "rows_per_second": 1.0, "labels": {"a": 9}}
    of_one = draw_labels([PastRun.of("one", labels, [])])

    two, one = (int.from_bytes((png or b"")[20:24], "big") for png in (of_two, of_one))
    assert two == 2 * one > 0  # pixels of height
    assert draw_labels([PastRun.of("none", summary(), [])]) is None


def test_a_question_that_earlier_runs_did_not_ask_has_no_drift() -> None:
    one, _ = past()

    assert PastRun.of("two", summary(new={"a": 3}), [one]).drift is None
