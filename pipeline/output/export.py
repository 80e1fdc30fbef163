"""Writes a dataset as one file: CSV, Parquet, JSON Lines or a spreadsheet."""

from __future__ import annotations

import base64
import datetime
import io
import math
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from pipeline.errors import JobFailed, UsageError
from pipeline.input.plain import plain_rows
from pipeline.job.template.json_text import json_text

_SHEET_ROWS = 1_048_576  # of a worksheet in Excel, with its header
_CELL_CHARACTERS = 32_767  # limit of a cell
_SHEET_COLUMNS = 16_384
_SHEET_DIGITS = 15  # of a decimal, that a spreadsheet keeps
_SHEET_WHOLE = 2**53  # the largest whole number that it keeps
Tables = Iterator[pa.Table]


def export(tables: Tables, schema: pa.Schema, path: Path) -> int:
    """Write the rows of ``tables`` to the file ``path``; its extension sets the format. Returns the
    number of rows.

    The file appears whole or not at all; an existing file is replaced. Except in Parquet, binary
    data that is not UTF-8 text is base64, and dates, times and durations are in ISO form.

    Raises UsageError for an unknown extension, and for what the format cannot hold; JobFailed if
    nothing can be written, or a value would be lost.
    """
    write = _FORMATS.get(path.suffix.lower())
    if write is None:
        raise UsageError(f"{path}: the format is not known", f"end it with {', '.join(_FORMATS)}")
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = write(_plain(tables, schema), schema, part)
        os.replace(part, path)
    except OSError as e:
        raise JobFailed(f"{path} could not be written: {e.strerror or e}") from None
    except pa.ArrowException as e:
        raise JobFailed(f"{path} could not be written: {e}") from None
    finally:
        with suppress(OSError):
            part.unlink()
    return rows


def _plain(tables: Tables, schema: pa.Schema) -> Tables:
    """The tables with only the columns of ``schema``."""
    for table in tables:
        columns = [_column(table, field) for field in schema]
        yield pa.Table.from_arrays(columns, schema=schema)


def _column(table: pa.Table, field: pa.Field) -> pa.ChunkedArray | pa.Array:
    column = table[field.name]
    if column.type == field.type:
        return column
    try:
        return column.cast(field.type)
    except pa.ArrowException as e:
        raise JobFailed(
            f"column {field.name!r}, a {column.type}, is no {field.type}: {e}"
        ) from None


def _parquet(tables: Tables, schema: pa.Schema, path: Path) -> int:
    rows = 0
    for field in schema:
        _check_parquet(field, pa.table({field.name: pa.nulls(0, field.type)}))
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in tables:
            try:
                writer.write_table(table)
            except pa.ArrowException:
                for field in schema:
                    _check_parquet(field, table.select([field.name]))
                raise
            rows += table.num_rows
    return rows


def _check_parquet(field: pa.Field, column: pa.Table) -> None:
    """Raises JobFailed if Parquet cannot hold the column."""
    try:
        pq.write_table(column, io.BytesIO())
    except pa.ArrowException as e:
        raise JobFailed(
            f"Parquet cannot hold column {field.name!r}, a {field.type}: {e}",
            "export to .csv or .jsonl",
        ) from None


def _csv(tables: Tables, schema: pa.Schema, path: Path) -> int:
    """Lists and structs are JSON in their cells; null is an empty cell, empty text ``""``."""
    flat = pa.schema([(f.name, f.type if _is_plain(f.type) else pa.string()) for f in schema])
    rows = 0
    with pc_csv.CSVWriter(path, flat) as writer:
        for table in tables:
            columns = [_in_cells(table[f.name], f.name, rows) for f in schema]
            writer.write_table(pa.Table.from_arrays(columns, schema=flat))
            rows += table.num_rows
    return rows


def _is_plain(kind: pa.DataType) -> bool:
    """Whether Arrow can write this type into a CSV file directly."""
    t = pa.types
    if t.is_float16(kind):
        return False
    plain = (
        t.is_integer,
        t.is_floating,
        t.is_boolean,
        t.is_string,
        t.is_large_string,
        t.is_decimal,
    )
    return any(is_it(kind) for is_it in plain)


def _in_cells(column: pa.ChunkedArray, name: str, before: int) -> pa.ChunkedArray:
    if _is_plain(column.type):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:  # text that is not UTF-8
            _values(column, name, before)
        return column
    values = _values(column, name, before)
    texts = [None if value is None else _cell_text(value) for value in values]
    return pa.chunked_array([pa.array(texts, pa.string())])


def _values(column: pa.ChunkedArray, name: str, before: int) -> list[Any]:
    """The values as Python objects. ``before``: how many rows were written before them.

    Raises JobFailed for a value that Python cannot represent: text that is not UTF-8, years after
    9999.
    """
    rows, wrong = plain_rows(pa.table({"": column}))
    if wrong:
        first = min(wrong)
        raise JobFailed(
            f"column {name!r}, row {before + first + 1}: {wrong[first]}",
            "leave the row or the column out, or export to .parquet",
        )
    return [row[""] for row in rows]


def _rows(table: pa.Table, before: int) -> Iterator[tuple[Any, ...]]:
    columns = [_values(table[name], name, before) for name in table.column_names]
    return zip(*columns, strict=True)


def _jsonl(tables: Tables, _schema: pa.Schema, path: Path) -> int:
    rows = 0
    with path.open("w", encoding="utf-8") as file:
        for table in tables:
            for row in _rows(table, rows):
                file.write(_json_line(dict(zip(table.column_names, row, strict=True))) + "\n")
            rows += table.num_rows
    return rows


def _xlsx(tables: Tables, schema: pa.Schema, path: Path) -> int:
    """Numbers that a spreadsheet would round are text; text is never a formula."""
    try:
        import xlsxwriter
    except ImportError:
        raise UsageError(
            "spreadsheets need the package xlsxwriter", "pip install xlsxwriter, or export to .csv"
        ) from None
    if len(schema) > _SHEET_COLUMNS:
        raise UsageError(
            f"a worksheet holds {_SHEET_COLUMNS:,} columns at most, the output has {len(schema):,}",
            "export to .csv or .parquet",
        )
    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False,
               "strings_to_numbers": False}  # fmt: skip
    rows = 0
    with xlsxwriter.Workbook(str(path), options) as book:
        sheet = book.add_worksheet("rows")
        for place, name in enumerate(schema.names):
            _write_text(sheet, 0, place, name)
        sheet.freeze_panes(1, 0)
        for table in tables:
            for row in _rows(table, rows):
                rows += 1
                if rows >= _SHEET_ROWS:
                    raise UsageError(
                        f"a worksheet holds {_SHEET_ROWS - 1:,} rows at most",
                        "export to .csv or .parquet, or fewer rows: --where, --rows",
                    )
                for place, value in enumerate(row):
                    _write_cell(sheet, rows, place, value)
    return rows


def _write_cell(sheet: Any, row: int, place: int, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        _check_written(sheet.write_boolean(row, place, value), row, place)
    elif _is_sheet_number(value):
        _check_written(sheet.write_number(row, place, value), row, place)
    else:
        _write_text(sheet, row, place, _cell_text(value))


def _is_sheet_number(value: Any) -> bool:
    """Whether a spreadsheet keeps the number exactly."""
    if isinstance(value, Decimal):
        return value.is_finite() and len(value.as_tuple().digits) <= _SHEET_DIGITS
    if isinstance(value, int):
        return abs(value) <= _SHEET_WHOLE
    return isinstance(value, float) and math.isfinite(value)


def _write_text(sheet: Any, row: int, place: int, text: str) -> None:
    if len(text) > _CELL_CHARACTERS:
        where = f"row {row}" if row else "the header"
        raise UsageError(
            f"{where}: this text has {len(text):,} characters, a cell of a spreadsheet "
            f"holds {_CELL_CHARACTERS:,}",
            "export to .csv or .parquet",
        )
    _check_written(sheet.write_string(row, place, text), row, place)


def _check_written(code: int, row: int, place: int) -> None:
    if code:
        raise UsageError(
            f"row {row}, column {place + 1}: a spreadsheet cannot hold this value",
            "export to .csv or .parquet",
        )


def _as_json(value: Any) -> Any:
    """The value for JSON: NaN and the infinities are null, other types that JSON lacks are text."""
    if isinstance(value, dict):
        return {_cell_text(key): _as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | Decimal):
        return value
    return _cell_text(value)


def _json_line(value: Any) -> str:
    """The value as JSON, on one line."""
    return json_text(_as_json(value), ensure_ascii=False, allow_nan=False)


def _cell_text(value: Any) -> str:
    """The value as the text of a cell: JSON for lists and structs, without quotes for the rest."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return _iso_duration(value)
    if isinstance(value, dict | list | tuple | bool | Decimal) or value is None:
        return _json_line(value)
    return str(value)


def _iso_duration(value: datetime.timedelta) -> str:
    """In days and seconds: P1DT2.5S."""
    sign, length = ("-", -value) if value < datetime.timedelta() else ("", value)
    nanoseconds = length.microseconds * 1000 + int(getattr(length, "nanoseconds", 0))  # of pandas
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    return f"{sign}P{length.days}DT{length.seconds}{fraction}S"


_FORMATS: dict[str, Callable[[Tables, pa.Schema, Path], int]] = {
    ".csv": _csv, ".parquet": _parquet, ".jsonl": _jsonl, ".xlsx": _xlsx,
}  # fmt: skip
