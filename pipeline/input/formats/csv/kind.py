"""CSV as an input format."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from pipeline.input.formats.base import Mark, Reader, ScannedFile, open_file, pieces
from pipeline.input.formats.csv.format import CsvReader, dialect_of, scan_as
from pipeline.input.formats.csv.records import Dialect
from pipeline.input.formats.csv.second import SecondCells
from pipeline.input.formats.line_marks import lines_still_there, mark_of_lines
from pipeline.input.formats.protocol import Looked
from pipeline.input.formats.second_rows import SecondRows
from pipeline.input.schema.join import CommonSchema, join
from pipeline.input.shard import Shard
from pipeline.job.job import Input


def scan(path: str, readable: str, source: Input) -> ScannedFile:
    return scan_as(readable, dialect_of(path, readable, source))


def common_schema(files: Sequence[Looked]) -> CommonSchema:
    return join(_text_where_they_differ([(one.path, one.scan.schema) for one in files]))


def open_reader(shard: Shard, schema: pa.Schema) -> Reader:
    dialect, size = Dialect.of(shard.delimiter, shard.quotes), shard.readable_size
    return CsvReader(shard.readable, schema, shard.offsets, dialect, size)


def open_second(shard: Shard) -> SecondRows:
    return SecondCells(shard)


def mark_of(shard: Shard) -> Mark:
    return mark_of_lines(shard, b"\n\r", len)  # cells may be spaces or tabs


def rows_still_there(shard: Shard, rows: int, mark: Mark, quotes: str | None) -> int | None:
    if quotes not in (None, shard.quotes):
        with open_file(shard.path) as file:
            if any(b'"' in piece for piece in pieces(file, mark.size + mark.tail_size)):
                return None
    return lines_still_there(shard, rows, mark, lambda after: after[:1] in (b"", b"\n", b"\r"))


def _text_where_they_differ(schemas: list[tuple[str, pa.Schema]]) -> list[tuple[str, pa.Schema]]:
    """Columns whose types differ between CSV files become text: 1 beside 1.5 is not 1.0."""
    kinds: dict[str, set[pa.DataType]] = {}
    for _, schema in schemas:
        for field in schema:
            kinds.setdefault(field.name, set()).add(field.type)
    for of in kinds.values():
        of.discard(pa.null())
    text = {name for name, of in kinds.items() if len(of) != 1}
    return [
        (path, pa.schema([f.with_type(pa.string()) if f.name in text else f for f in schema]))
        for path, schema in schemas
    ]
