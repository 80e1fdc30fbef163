"""Arrow values as Python values, where possible."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping
from datetime import datetime, time
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.rows.large_tables import inner_types

# text that is not UTF-8, times before the year 1, unhashable keys
_NO_VALUE = (pa.ArrowException, ValueError, OverflowError, TypeError)


class FineMoment(datetime):
    """A datetime with additional nanoseconds: 0 to 999."""

    nanosecond = 0

    def isoformat(self, sep: str = "T", timespec: str = "") -> str:  # noqa: ARG002
        return _with_nanoseconds(super().isoformat(sep, "microseconds"), self.nanosecond)

    def __str__(self) -> str:
        return self.isoformat(" ")


class FineTime(time):
    """The same for a time of day."""

    nanosecond = 0

    def isoformat(self, timespec: str = "") -> str:  # noqa: ARG002
        return _with_nanoseconds(super().isoformat("microseconds"), self.nanosecond)

    __str__ = isoformat


def _with_nanoseconds(text: str, nanoseconds: int) -> str:
    end = text.index(".") + 7
    return f"{text[:end]}{nanoseconds:03d}{text[end:]}"


def plain_rows(table: pa.Table) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """The rows as Python values, and for some the reason why Python cannot represent them (such a
    row is empty)."""
    table, finer = _coarser(table)
    try:
        _check_fineness(table)
        rows = table.to_pylist()
    except _NO_VALUE:
        pass
    else:
        _refine(rows, finer)
        return rows, {}
    rows = []
    wrong: dict[int, str] = {}
    for number in range(table.num_rows):
        one = table.slice(number, 1)
        try:
            _check_fineness(one)
            rows += one.to_pylist()
        except _NO_VALUE as e:
            rows.append({})
            wrong[number] = f"a value cannot be read: {e}"
    _refine(rows, finer)
    return rows, wrong


def rows_with_gaps(table: pa.Table) -> list[dict[str, Any]]:
    """The rows as Python values; a value that Python cannot represent is None, the others stay."""
    rows, wrong = plain_rows(table)
    for number in wrong:
        one = table.slice(number, 1)
        rows[number] = {name: plain_values(one[name])[0] for name in table.column_names}
    return rows


def plain_values(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column; None where Python cannot represent them."""
    rows, _ = plain_rows(pa.table({"": column}))
    return [row.get("") for row in rows]


def same_value(a: Any, b: Any) -> bool:
    """Equality where NaN equals NaN, and True does not equal 1."""
    return (a == b and isinstance(a, bool) == isinstance(b, bool)) or repr(a) == repr(b)


def first_difference(
    one: pa.ChunkedArray,
    other: pa.ChunkedArray,
    same: Callable[[Any, Any], bool] = same_value,
) -> int | None:
    """The first row in which two columns of equal length are not the ``same``."""
    if one.type == other.type:
        if one.equals(other):
            return None
        if _equals_itself(one.type):
            # Python's values lose something: nanoseconds, text that is not UTF-8
            ends = range(1, len(one) + 1)
            return bisect(ends, False, key=lambda end: not one[:end].equals(other[:end]))
    pairs = zip(plain_values(one), plain_values(other), strict=True)
    return next((row for row, (a, b) in enumerate(pairs) if not same(a, b)), None)


def _equals_itself(kind: pa.DataType) -> bool:
    """Whether Arrow considers every value of the type equal to itself, however it is stored."""
    return not any(
        pa.types.is_dictionary(one)
        or pa.types.is_run_end_encoded(one)
        or pa.types.is_union(one)
        or pa.types.is_floating(one)  # NaN
        or isinstance(one, pa.BaseExtensionType)
        for one in (kind, *inner_types(kind))
    )


def _coarser(table: pa.Table) -> tuple[pa.Table, dict[str, dict[int, int]]]:
    """Times with nanoseconds, which Python lacks, in microseconds; and by column and row the
    nanoseconds that are left."""
    finer: dict[str, dict[int, int]] = {}
    for place, field in enumerate(table.schema):
        kind = field.type
        if pa.types.is_timestamp(kind) and kind.unit == "ns":
            coarse = pa.timestamp("us", kind.tz)
        elif kind == pa.time64("ns"):
            coarse = pa.time64("us")
        else:
            continue
        numbers = table.column(place).cast(pa.int64())
        left = pc.fill_null(numbers, 0).to_numpy() % 1000
        times = pc.divide(pc.subtract(numbers, pa.array(left)), 1000).cast(coarse)
        table = table.set_column(place, field.name, times)
        finer[field.name] = {row: int(left[row]) for row in left.nonzero()[0].tolist()}
    return table, finer


def _check_fineness(table: pa.Table) -> None:
    """Raise ValueError for times of day in lists and objects whose nanoseconds Arrow would cut off
    in the conversion to Python."""
    for field in table.schema:
        if pa.time64("ns") not in inner_types(field.type):
            continue
        if any(map(_is_too_fine, table.column(field.name).chunks)):
            raise ValueError(f"a time of day in {field.name!r} has nanoseconds")


def _is_too_fine(values: pa.Array) -> bool:
    kind = values.type
    if kind == pa.time64("ns"):
        return bool((pc.fill_null(values.cast(pa.int64()), 0).to_numpy() % 1000).any())
    if pa.types.is_map(kind):
        return _is_too_fine(values.keys) or _is_too_fine(values.items)
    if pa.types.is_struct(kind):
        return any(map(_is_too_fine, values.flatten()))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _is_too_fine(values.flatten())
    return False


def _refine(rows: list[dict[str, Any]], finer: Mapping[str, Mapping[int, int]]) -> None:
    for name, left in finer.items():
        for row, nanoseconds in left.items():
            value = rows[row].get(name)
            fine: FineMoment | FineTime
            if isinstance(value, datetime):
                fine = FineMoment.combine(value.date(), value.timetz())
            elif isinstance(value, time):
                fine = FineTime.fromisoformat(value.isoformat())
            else:
                continue  # the row cannot be read
            fine.nanosecond = nanoseconds
            rows[row][name] = fine
