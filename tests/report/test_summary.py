from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from pipeline.engine.protocol import EngineFacts
from pipeline.output.tally import Tally
from pipeline.output.totals import accuracy
from pipeline.report.summary import Summary, Work, measured

FACTS = EngineFacts("simulated", "1", "none", 4096, 256, 2048, 16, 1000, 1 << 30)
PROVENANCE = {
    "model": "gemma",
    "quantization": "int4 group 32",
    "fingerprint": "f" * 64,
    "rackmill_version": "1",
}


def summary(total: Tally, work: Work | None = None, gold: str | None = None) -> Summary:
    return Summary(
        name="sample",
        reused=3,
        seconds=9.0,
        output="out",
        report="out/report.md",
        **measured(total, work or Work(), PROVENANCE, gold=gold),
    )


@pytest.mark.parametrize(
    ("confusion", "share"),
    [
        ({}, None),
        ({"a\ta": 3, "a\tb": 1}, 0.75),
        ({"right": 1, "wrong": 3}, 0.25),
        ({"right\twrong": 1}, 0.0),
        ({"right\tright": 1}, 1.0),
    ],
)
def test_accuracy_is_the_share_of_graded_rows_that_are_right(
    confusion: dict[str, int], share: float | None
) -> None:
    assert accuracy(confusion) == share


def test_rates_are_over_this_runs_work() -> None:
    work = Work(rows=20, prompt_tokens=200, completion_tokens=40, seconds=4.0)
    made = summary(Tally(rows=100), work)

    assert made.rows_per_second == 5
    assert made.prompt_tokens_per_second == 50
    assert made.completion_tokens_per_second == 10


def test_a_run_without_work_has_no_rates() -> None:
    assert summary(Tally(rows=3)).rows_per_second == 0


@pytest.mark.parametrize(("failed", "code"), [(0, 0), (1, 3)])
def test_error_rows_show_in_the_exit_code(failed: int, code: int) -> None:
    made = summary(Tally(rows=5, failed=failed))

    assert (made.exit_code, made.succeeded) == (code, 5 - failed)


def test_accuracy_is_there_only_with_a_gold_column() -> None:
    total = Tally(rows=1, confusion=Counter({"a\ta": 1}))

    assert summary(total).accuracy is None
    assert summary(total, gold="truth").accuracy == 1.0


def test_a_summary_is_plain_json() -> None:
    total = Tally(rows=2, errors=Counter({"InvalidRow": 1}), labels=Counter({"a": 1}))
    made = summary(total, Work(seconds=3.0, rows=1, engines=(FACTS,)))
    content: dict[str, Any] = json.loads(json.dumps(made.as_json()))

    assert content["rows_per_second"] == 0.3333
    assert content["errors"] == {"InvalidRow": 1}
    assert content["engines"][0]["num_blocks"] == 1000
    assert content["versions"] == {"rackmill_version": "1"}


def test_what_is_most_frequent_comes_first() -> None:
    made = summary(Tally(rows=9, labels=Counter({"rare": 1, "often": 8})))

    assert list(made.labels) == ["often", "rare"]
