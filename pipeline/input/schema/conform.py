"""A file's columns converted to the common schema. Pure."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.input.plain import plain_values
from pipeline.job.template.field_text import as_text


def conform(table: pa.Table, schema: pa.Schema) -> tuple[pa.Table, dict[int, str]]:
    """The table's columns by name, in the schema's order; missing ones are null. Also what is wrong
    with single rows, by position: a value that the wider type cannot hold exactly becomes null."""
    invalid: dict[int, str] = {}
    there = dict(zip(table.column_names, table.columns, strict=True))
    columns = [
        _cast(there[field.name], field, invalid)
        if field.name in there
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema), invalid


def _cast(column: pa.ChunkedArray, field: pa.Field, invalid: dict[int, str]) -> Any:
    kind = field.type
    if column.type == kind:
        return column
    if pa.types.is_string(kind) and not _is_text(column.type):
        values = plain_values(column)
        return pa.array([None if v is None else as_text(v) for v in values], kind)
    try:
        return _exactly(column, kind)
    except pa.ArrowException:
        pass
    parts = []
    for row in range(len(column)):
        try:
            parts.append(_exactly(column.slice(row, 1), kind))
        except pa.ArrowException:
            value = plain_values(column.slice(row, 1))[0]
            invalid.setdefault(row, f"column {field.name!r}: {value!r} is no exact {kind}")
            parts.append(pa.chunked_array([pa.nulls(1, kind)]))
    return pa.chunked_array([chunk for part in parts for chunk in part.chunks], kind)


def _exactly(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Cast to the other type. Raises pa.ArrowException if it cannot hold a value exactly."""
    made = pc.cast(column, kind)
    if _is_text(column.type) and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        text = pc.cast(column, pa.string())
        if pa.types.is_integer(kind):
            odd = pc.match_substring(text, "x", ignore_case=True)
        else:
            odd = pc.and_(pc.is_inf(made), pc.match_substring_regex(text, "[0-9]"))
        if pc.any(odd).as_py():
            raise pa.ArrowInvalid(f"a hexadecimal number, or one too large for {kind}")
    return made


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    texts = (pa.string(), pa.large_string(), pa.string_view())
    return kind in texts or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
