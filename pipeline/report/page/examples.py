"""The rows that a report shows: wrong ones, doubtful ones, the first ones."""

from __future__ import annotations

import heapq
from typing import Any

from pipeline.humanize import count
from pipeline.input.plain import plain_rows
from pipeline.output.rows.stored_rows import StoredRows
from pipeline.report.page.page import RowTable

_SHOWN = 10
_LOOKED_AT = 100_000  # rows: with millions, the report should still be there soon after the last


def rows_to_show(stored: StoredRows) -> list[RowTable]:
    """The tables, in the order in which people look at them. Raises StorageFailed."""
    first: list[dict[str, Any]] = []
    wrong: list[dict[str, Any]] = []
    doubtful: list[tuple[float, int, dict[str, Any]]] = []  # a heap: the most certain first
    seen, right = 0, stored.right_answers
    for table in stored.tables():
        rows: list[dict[str, Any]] = [row for row in plain_rows(table)[0] if row]
        first += rows[: _SHOWN - len(first)]
        for row in rows:
            seen += 1
            if len(wrong) < _SHOWN and right.is_wrong(row):
                wrong.append(row)
            confidence = stored.confidence(row)
            if confidence is not None:
                heapq.heappush(doubtful, (-confidence, -seen, row))
                if len(doubtful) > _SHOWN:
                    heapq.heappop(doubtful)
        if seen >= _LOOKED_AT:
            break
    note = f"Of the first {count(seen)} rows." if seen >= _LOOKED_AT else ""
    least = [row for _, _, row in sorted(doubtful, key=lambda one: (-one[0], -one[1]))]
    return [
        RowTable("Labels that differ from the right answer", wrong, note),
        RowTable("Labels of least confidence", least, note),
        RowTable("The first rows", first),
    ]
