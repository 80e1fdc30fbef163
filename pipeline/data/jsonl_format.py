"""JSON Lines input: one object a line. A line that is none becomes an error row, not a failure."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.json

from pipeline.data.formats import Rows, ScannedFile
from pipeline.errors import UsageError

STRIDE = 128  # rows between two indexed byte offsets
# what pyarrow raises for values of several types, too large numbers, half surrogate pairs
_NO_ARRAY = (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError)
_SCHEMA_BYTES = 8 << 20  # how far into a file the column types are looked for


def scan(path: str) -> ScannedFile:
    """Count the lines, note the byte offset of every STRIDE-th, infer the column types."""
    offsets: list[int] = []
    rows = position = 0
    head = bytearray()
    with _open(path) as file:
        for line in file:
            if line.strip():
                if rows % STRIDE == 0:
                    offsets.append(position)
                rows += 1
                if len(head) < _SCHEMA_BYTES:
                    head += line
            position += len(line)
    return ScannedFile(rows, _schema_of(path, bytes(head)), offsets=tuple(offsets))


def _open(path: str) -> IO[bytes]:
    try:
        source: Any = fsspec.open(path, "rb").open()
        return io.BufferedReader(source, 1 << 20) if "://" not in path else source
    except OSError as e:
        raise UsageError(f"{path} cannot be read: {e}") from None


def _schema_of(path: str, head: bytes) -> pa.Schema:
    objects = []
    for line in head.splitlines():
        value = _parse(line)
        if isinstance(value, dict):
            objects.append(value)
    if head and not objects:
        raise UsageError(f"{path}: no line of it is a JSON object")
    names = list(dict.fromkeys(name for row in objects for name in row))
    fields = []
    for name in names:
        column_type = _type_of([o.get(name) for o in objects])
        if column_type is None:
            raise UsageError(
                f"{path}: values of {name!r} are of several kinds, and none of most rows",
                "make them one kind, or text",
            )
        fields.append(pa.field(name, column_type))
    return pa.schema(fields)


def _type_of(values: list[Any]) -> pa.DataType | None:
    """The Arrow type of the column; where values disagree, of the kind that most of them are
    (the others are their rows' trouble); None if no kind is in the majority."""
    try:
        return pa.array(values).type
    except _NO_ARRAY:
        pass
    kinds = Counter(_kind(v) for v in values if v is not None)
    kind, number = kinds.most_common(1)[0]
    if number * 2 <= kinds.total():
        return None
    same = [v for v in values if v is not None and _kind(v) == kind]
    try:
        return pa.array(same).type
    except _NO_ARRAY:  # one of a kind, but too large, or objects of several shapes
        types: Counter[pa.DataType] = Counter()
        for value in same:
            with contextlib.suppress(*_NO_ARRAY):
                types[pa.array([value]).type] += 1
        return types.most_common(1)[0][0] if types else None


def _kind(value: Any) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


class JsonlReader:
    """Seeks to the indexed offset before a row and parses from there."""

    def __init__(self, path: str, schema: pa.Schema, offsets: tuple[int, ...]) -> None:
        self._file = _open(path)
        self._schema = schema
        self._offsets = offsets
        self._row = 0

    def read(self, start: int, stop: int) -> Rows:
        if self._row != start:
            index = start // STRIDE
            self._file.seek(self._offsets[index])
            self._row = index * STRIDE
        objects: list[dict[str, Any]] = []
        invalid: dict[int, str] = {}
        while self._row < stop and (line := self._file.readline()):
            if not line.strip():
                continue
            if self._row >= start:
                value = _parse(line)
                if not isinstance(value, dict):
                    invalid[len(objects)] = "the line is not a JSON object"
                    value = {}
                objects.append(value)
            self._row += 1
        columns = [_column(field, objects, invalid) for field in self._schema]
        return Rows(pa.Table.from_arrays(columns, schema=self._schema), invalid)

    def close(self) -> None:
        self._file.close()


def _column(field: pa.Field, objects: list[dict[str, Any]], invalid: dict[int, str]) -> pa.Array:
    values = [row.get(field.name) for row in objects]
    try:
        return pa.array(values, field.type)
    except _NO_ARRAY:
        pass
    for position, value in enumerate(values):  # find the rows that do not fit, keep the others
        try:
            pa.array([value], field.type)
        except _NO_ARRAY:
            invalid.setdefault(position, f"field {field.name!r} is not a {field.type}")
            values[position] = None
    return pa.array(values, field.type)
