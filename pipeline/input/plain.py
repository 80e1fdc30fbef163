"""Arrow's values as Python's, where Python has them."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable
from typing import Any

import pyarrow as pa

# text that is not UTF-8, times before the year 1, keys that no mapping can have
_NO_VALUE = (pa.ArrowException, ValueError, OverflowError, TypeError)


def plain_rows(table: pa.Table) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """The rows as Python has them, and of some why Python cannot have them (such a row is
    empty)."""
    table = _coarser(table)
    try:
        return table.to_pylist(), {}
    except _NO_VALUE:
        pass
    rows: list[dict[str, Any]] = []
    wrong: dict[int, str] = {}
    for number in range(table.num_rows):
        try:
            rows += table.slice(number, 1).to_pylist()
        except _NO_VALUE as e:
            rows.append({})
            wrong[number] = f"a value cannot be read: {e}"
    return rows, wrong


def plain_values(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column; None for those that Python cannot have."""
    rows, _ = plain_rows(pa.table({"": column}))
    return [row.get("") for row in rows]


def same_value(a: Any, b: Any) -> bool:
    """NaN is unlike itself, but looks the same; True is 1, and does not."""
    return (a == b and isinstance(a, bool) == isinstance(b, bool)) or repr(a) == repr(b)


def first_difference(
    one: pa.ChunkedArray,
    other: pa.ChunkedArray,
    same: Callable[[Any, Any], bool] = same_value,
) -> int | None:
    """The first row in which two columns of as many rows are not the ``same``."""
    if one.type == other.type:
        if one.equals(other):
            return None
        if _equals_itself(one.type):
            # Python's values are coarser: no nanoseconds, no text that is not UTF-8
            ends = range(1, len(one) + 1)
            return bisect(ends, False, key=lambda end: not one[:end].equals(other[:end]))
    pairs = zip(plain_values(one), plain_values(other), strict=True)
    return next((row for row, (a, b) in enumerate(pairs) if not same(a, b)), None)


def _equals_itself(kind: pa.DataType) -> bool:
    """Whether Arrow finds every value of the type equal to itself, however it is stored."""
    apart = pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind)
    if apart or pa.types.is_union(kind) or isinstance(kind, pa.BaseExtensionType):
        return False
    if pa.types.is_nested(kind):
        return all(_equals_itself(kind.field(i).type) for i in range(kind.num_fields))
    return not pa.types.is_floating(kind)  # NaN


def _coarser(table: pa.Table) -> pa.Table:
    """Times in nanoseconds, which are finer than Python's, in microseconds."""
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            times = table.column(place).cast(pa.timestamp("us", field.type.tz), safe=False)
            table = table.set_column(place, field.name, times)
    return table
