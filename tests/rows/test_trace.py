"""What a trace must look like."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.rows.trace import TraceRow, rows_of

GOOD: dict[str, list[Any]] = {"prompt_tokens": [10, 20], "output_tokens": [1, 2]}


def test_two_columns_are_enough() -> None:
    assert rows_of(GOOD, "t") == [TraceRow(0, 10, 1), TraceRow(1, 20, 2)]


def test_groups_may_be_named_anyhow_and_be_absent() -> None:
    columns = GOOD | {"prefix_group": ["few-shot", None], "prefix_tokens": [8, None]}
    assert [(r.prefix_group, r.prefix_tokens) for r in rows_of(columns, "t")] == [(0, 8), (-1, 0)]


def test_rows_of_a_group_share_the_keys_of_whole_blocks() -> None:
    long, short = TraceRow(0, 100, 1, 3, 70), TraceRow(1, 90, 1, 3, 40)
    assert len(long.keys(16)) == 4
    assert long.keys(16)[:2] == short.keys(16)


def test_rows_of_other_groups_and_of_none_share_nothing() -> None:
    assert not set(TraceRow(0, 100, 1, 3, 70).keys(16)) & set(TraceRow(1, 90, 1, 4, 70).keys(16))
    assert TraceRow(2, 100, 1).keys(16) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt_tokens": [10, None]}, "row 2: prompt_tokens is null"),
        ({"prompt_tokens": [10, -3]}, "row 2: prompt_tokens is -3, below 1"),
        ({"output_tokens": [0, 3]}, "row 1: output_tokens is 0, below 1"),
        ({"output_tokens": [1.5, 3]}, "row 1: output_tokens is 1.5, not a whole number"),
        ({"output_tokens": ["5", 3]}, "row 1: output_tokens is '5', not a whole number"),
        ({"output_tokens": [1, 10**9]}, "row 2: output_tokens is 1000000000, above"),
        ({"output_tokens": [1, float("nan")]}, "row 2: output_tokens is nan, not a whole number"),
        ({"output_tokens": [1, float("inf")]}, "row 2: output_tokens is inf, not a whole number"),
        ({"arrival": [0.0, -1.0]}, "row 2: arrival is -1.0"),
        ({"arrival": [0.0, float("nan")]}, "row 2: arrival is nan"),
        ({"arrival": ["now", 0]}, "row 1: arrival is 'now'"),
        ({"prefix_group": [1, 1], "prefix_tokens": [11, 0]}, "row 1: prefix_tokens 11 is above"),
        ({"prefix_group": [1, 1], "prefix_tokens": [1, None]}, "row 2: prefix_tokens is null"),
        ({"prefix_group": [1, 1]}, "only make sense together"),
        ({"prompt_tokens": [], "output_tokens": []}, "has no rows"),
    ],
)
def test_an_impossible_trace_says_where(change: dict[str, list[Any]], words: str) -> None:
    with pytest.raises(UsageError, match="trace: t") as told:
        rows_of(GOOD | change, "t")
    assert words in told.value.message


def test_a_column_that_is_missing_is_named() -> None:
    with pytest.raises(UsageError, match="no column output_tokens"):
        rows_of({"prompt_tokens": [1]}, "t")
