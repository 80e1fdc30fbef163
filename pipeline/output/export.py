"""A dataset as one file: CSV, Parquet, JSON Lines or a spreadsheet."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from pipeline.errors import JobFailed, UsageError
from pipeline.input.plain import plain_rows, plain_values
from pipeline.job.template.field_text import as_text
from pipeline.job.template.json_text import json_text
from pipeline.output.stored_rows import FILE, ROW

_SHEET_ROWS = 1_048_576  # that a worksheet of Excel has, its header among them
_CELL_CHARACTERS = 32_767  # of a cell
_SHEET_DIGITS = 15  # of a number that a spreadsheet keeps
Tables = Iterator[pa.Table]


def export(tables: Tables, schema: pa.Schema, path: Path) -> int:
    """Write the rows of ``tables`` to the file ``path``, whose ending says the format. Returns how
    many they were.

    The file appears whole or not at all; one that is there is replaced. Raises UsageError for an
    ending that is none, and for what the format cannot hold; JobFailed where nothing can be
    written.
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
    finally:
        with suppress(OSError):
            part.unlink()
    return rows


def _plain(tables: Tables, schema: pa.Schema) -> Tables:
    """The tables with the columns of ``schema`` and no others; those that a run lacks are null."""
    for table in tables:
        table = table.drop_columns([n for n in (FILE, ROW) if n in table.column_names])
        columns = [
            table[f.name].cast(f.type)
            if f.name in table.column_names
            else pa.nulls(len(table), f.type)
            for f in schema
        ]
        yield pa.Table.from_arrays(columns, schema=schema)


def _parquet(tables: Tables, schema: pa.Schema, path: Path) -> int:
    rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
            rows += table.num_rows
    return rows


def _csv(tables: Tables, schema: pa.Schema, path: Path) -> int:
    """Lists and structs are JSON in their cells; null is an empty cell, empty text ``""``."""
    flat = pa.schema([(f.name, f.type if _is_plain(f.type) else pa.string()) for f in schema])
    rows = 0
    with pc_csv.CSVWriter(path, flat) as writer:
        for table in tables:
            columns = [_in_cells(table[f.name]) for f in schema]
            writer.write_table(pa.Table.from_arrays(columns, schema=flat))
            rows += table.num_rows
    return rows


def _is_plain(kind: pa.DataType) -> bool:
    """Whether Arrow writes it into a CSV file as it stands."""
    t = pa.types
    plain = (
        t.is_integer,
        t.is_floating,
        t.is_boolean,
        t.is_string,
        t.is_large_string,
        t.is_decimal,
    )
    return any(is_it(kind) for is_it in plain)


def _in_cells(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if _is_plain(column.type):
        return column
    texts = [None if value is None else as_text(value) for value in plain_values(column)]
    return pa.chunked_array([pa.array(texts, pa.string())])


def _json(value: Any) -> str:
    return json_text(value, ensure_ascii=False, default=str)


def _jsonl(tables: Tables, _schema: pa.Schema, path: Path) -> int:
    rows = 0
    with path.open("w", encoding="utf-8") as file:
        for table in tables:
            for row in plain_rows(table)[0]:
                file.write(_json(row) + "\n")
            rows += table.num_rows
    return rows


def _xlsx(tables: Tables, schema: pa.Schema, path: Path) -> int:
    """Numbers that a spreadsheet would round are text; so is all text: none is a formula."""
    import xlsxwriter

    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False,
               "strings_to_numbers": False}  # fmt: skip
    rows = 0
    with xlsxwriter.Workbook(str(path), options) as book:
        sheet = book.add_worksheet("rows")
        for place, name in enumerate(schema.names):
            sheet.write_string(0, place, name)
        sheet.freeze_panes(1, 0)
        for table in tables:
            for row in plain_rows(table)[0]:
                rows += 1
                if rows >= _SHEET_ROWS:
                    raise UsageError(
                        f"a worksheet holds {_SHEET_ROWS - 1:,} rows at most",
                        "export to .csv or .parquet, or fewer rows: --where, --rows",
                    )
                for place, name in enumerate(schema.names):
                    _write_cell(sheet, rows, place, row.get(name))
    return rows


def _write_cell(sheet: Any, row: int, place: int, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        sheet.write_boolean(row, place, value)
    elif (
        isinstance(value, int | float)
        and len(str(value).strip("-")) <= _SHEET_DIGITS
        and abs(value) < 1e300
    ):
        sheet.write_number(row, place, value)
    else:
        text = (
            value
            if isinstance(value, str)
            else str(value)
            if isinstance(value, int | float)
            else _json(value)
        )
        if len(text) > _CELL_CHARACTERS:
            raise UsageError(
                f"row {row}: this text has {len(text):,} characters, a cell of a spreadsheet "
                f"holds {_CELL_CHARACTERS:,}",
                "export to .csv or .parquet",
            )
        sheet.write_string(row, place, text)


_FORMATS: dict[str, Callable[[Tables, pa.Schema, Path], int]] = {
    ".csv": _csv, ".parquet": _parquet, ".jsonl": _jsonl, ".xlsx": _xlsx,
}  # fmt: skip
