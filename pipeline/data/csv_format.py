"""CSV input with a header line, quotes and line breaks inside them. An empty cell is null."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from pipeline.data.formats import Rows, ScannedFile
from pipeline.data.patience import passes
from pipeline.errors import UsageError

_PARSE = pyarrow.csv.ParseOptions(newlines_in_values=True)
# tried in this order on every column; text is what is left
_TYPES = (pa.int64(), pa.float64(), pa.bool_())


def scan(path: str) -> ScannedFile:
    """Read the file once, batch by batch: rows, and for each column a type all cells have."""
    rows = 0
    candidates: dict[str, list[pa.DataType]] = {}
    empty: dict[str, bool] = {}
    try:
        twice = [name for name, number in Counter(_header(path)).items() if number > 1]
        if twice:
            raise UsageError(f"{path}: the header names {twice[0]!r} twice", "rename one of them")
        for batch in _stream(path):
            rows += batch.num_rows
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                left = candidates.setdefault(name, list(_TYPES))
                empty[name] = empty.get(name, True) and column.null_count == len(column)
                candidates[name] = [t for t in left if _casts(column, t)]
    except (pa.ArrowException, UnicodeDecodeError) as e:
        if "Empty CSV" in str(e):
            return ScannedFile(0, pa.schema([]))
        raise UsageError(f"{path}: {e}", "mend the line, or quote its cells") from None
    types = {n: pa.null() if empty[n] else (c or [pa.string()])[0] for n, c in candidates.items()}
    if not types:  # a header alone
        types = {name: pa.null() for name in _header(path)}
    return ScannedFile(rows, pa.schema(list(types.items())))


def _casts(column: pa.Array, to: pa.DataType) -> bool:
    try:
        pc.cast(column, to)
    except pa.ArrowInvalid:
        return False
    return True


def _open(path: str) -> Any:
    try:
        return fsspec.open(path, "rb").open()
    except OSError as e:
        if passes(e):
            raise  # whoever reads waits
        raise UsageError(f"{path} cannot be read: {e}") from None


def _stream(path: str) -> Iterator[pa.RecordBatch]:
    """Batches in which every column is text."""
    convert = pyarrow.csv.ConvertOptions(
        column_types={name: pa.string() for name in _header(path)},
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    with _open(path) as file:
        yield from pyarrow.csv.open_csv(file, parse_options=_PARSE, convert_options=convert)


def _header(path: str) -> list[str]:
    with _open(path) as file:
        return list(pyarrow.csv.open_csv(file, parse_options=_PARSE).schema.names)


class CsvReader:
    """Streams the file; rows before the wanted ones are parsed and dropped."""

    def __init__(self, path: str, schema: pa.Schema) -> None:
        self._path = path
        self._schema = schema
        self._restart()

    def _restart(self) -> None:
        self._batches = _stream(self._path)
        self._position = 0
        self._buffer: list[pa.RecordBatch] = []

    def read(self, start: int, stop: int) -> Rows:
        if start < self._position:
            self._restart()
        while self._position + sum(b.num_rows for b in self._buffer) < stop:
            batch = next(self._batches, None)
            if batch is None:
                break
            self._buffer.append(batch)
            self._drop_before(start)
        text = pa.Table.from_batches(self._buffer).slice(start - self._position, stop - start)
        columns = [pc.cast(text.column(f.name), f.type) for f in self._schema]
        self._drop_before(stop)
        return Rows(pa.Table.from_arrays(columns, schema=self._schema))

    def _drop_before(self, row: int) -> None:
        while self._buffer and self._position + self._buffer[0].num_rows <= row:
            self._position += self._buffer.pop(0).num_rows

    def close(self) -> None:
        self._buffer = []
