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
from pipeline.data.patience import passes
from pipeline.errors import UsageError

STRIDE = 128  # rows between two indexed byte offsets
# what pyarrow raises for values of several types, too large numbers, half surrogate pairs
_NO_ARRAY = (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError)
_SCHEMA_BYTES = 8 << 20  # how far into a file the column types are looked for
_MOST_LINE_BYTES = 64 << 20
_MOST_DEPTH = 64  # of objects and lists in each other
_MOST_FIELDS = 2000  # of all objects of a column together: each is a column of its own
_TOO_LONG = b"!"


def scan(path: str) -> ScannedFile:
    """Count the lines, note the byte offset of every STRIDE-th, infer the column types."""
    offsets: list[int] = []
    rows = position = 0
    head = bytearray()
    with _open(path) as file:
        while size := (found := _next_line(file))[1]:
            line = found[0]
            if line.strip():
                if rows % STRIDE == 0:
                    offsets.append(position)
                rows += 1
                if len(head) < _SCHEMA_BYTES:
                    head += line
            position += size
    return ScannedFile(rows, _schema_of(path, bytes(head)), offsets=tuple(offsets))


def _open(path: str) -> IO[bytes]:
    try:
        source: Any = fsspec.open(path, "rb").open()
        return io.BufferedReader(source, 1 << 20) if "://" not in path else source
    except OSError as e:
        if passes(e):
            raise  # whoever reads waits
        raise UsageError(f"{path} cannot be read: {e}") from None


def _next_line(file: IO[bytes]) -> tuple[bytes, int]:
    """A line and its bytes in the file; of one that is far too long only a mark is kept."""
    line = file.readline(_MOST_LINE_BYTES)
    size = len(line)
    if size < _MOST_LINE_BYTES or line.endswith(b"\n"):
        return line, size
    while more := file.readline(_MOST_LINE_BYTES):
        size += len(more)
        if more.endswith(b"\n"):
            break
    return _TOO_LONG + b"\n", size


def _schema_of(path: str, head: bytes) -> pa.Schema:
    columns: dict[str, list[Any]] = {}
    objects = [value for line in head.splitlines() if isinstance(value := _parse(line), dict)]
    for value in objects:
        for name, cell in value.items():
            columns.setdefault(name, []).append(cell)
    if head and not objects:
        raise UsageError(f"{path}: no line of it is a JSON object")
    if head and not columns:
        raise UsageError(f"{path}: the objects in its lines have no fields")
    if len(columns) > _MOST_FIELDS:
        raise UsageError(
            f"{path}: its lines have {len(columns)} different fields, {_MOST_FIELDS} are the most",
            'put what differs from line to line into one field, as text or as [{"key": …}, …]',
        )
    fields = []
    for name, cells in columns.items():
        if _count_keys(cells) > _MOST_FIELDS:
            raise UsageError(
                f"{path}: the objects in {name!r} have more than {_MOST_FIELDS} different fields",
                'make it text, or a list of objects with the same fields: [{"key": …}, …]',
            )
        column_type = _type_of(cells)
        if column_type is None:
            raise UsageError(
                f"{path}: values of {name!r} are of several kinds, and none of most rows",
                "make them one kind, or text",
            )
        fields.append(pa.field(name, column_type))
    return pa.schema(fields)


def _count_keys(values: list[Any]) -> int:
    """Different keys in the objects among ``values`` and below them; counts no further than
    needed."""
    keys: set[str] = set()
    waiting = [value for value in values if isinstance(value, dict | list)]
    while waiting and len(keys) <= _MOST_FIELDS:
        value = waiting.pop()
        if isinstance(value, dict):
            keys.update(value)
        inner = value.values() if isinstance(value, dict) else value
        waiting += [v for v in inner if isinstance(v, dict | list)]
    return len(keys)


def _type_of(values: list[Any]) -> pa.DataType | None:
    """The Arrow type of the column; where values disagree, of the kind that most of them are
    (the others are their rows' trouble); None if no kind is in the majority."""
    try:
        return pa.array(values).type
    except _NO_ARRAY:
        pass
    kinds = Counter(_kind(v) for v in values if v is not None)
    if not kinds:
        return pa.null()
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


def _parse(line: bytes) -> dict[str, Any] | str:
    """The object that a line holds, or what is wrong with the line."""
    if line.startswith(_TOO_LONG):
        return f"the line is longer than {_MOST_LINE_BYTES >> 20} MiB"
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return "the line is not a JSON object"
    if not isinstance(value, dict):
        return "the line is not a JSON object"
    if line.count(b"[") + line.count(b"{") > _MOST_DEPTH and _is_deep(value):
        return f"the line has objects or lists nested deeper than {_MOST_DEPTH}"
    if not all(name.isascii() or _is_whole(name) for name in value):
        return "a field's name holds half of a surrogate pair"
    return value


def _is_deep(value: Any) -> bool:
    waiting = [(value, 1)]
    while waiting:
        part, depth = waiting.pop()
        if depth > _MOST_DEPTH:
            return True
        inner = part.values() if isinstance(part, dict) else part
        waiting += [(v, depth + 1) for v in inner if isinstance(v, dict | list)]
    return False


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
        while self._row < stop and (line := _next_line(self._file)[0]):
            if not line.strip():
                continue
            if self._row >= start:
                value = _parse(line)
                if isinstance(value, str):
                    invalid[len(objects)] = value
                    value = {}
                objects.append(value)
            self._row += 1
        columns = [_column(field, objects, invalid) for field in self._schema]
        return Rows(pa.Table.from_arrays(columns, schema=self._schema), invalid)

    def close(self) -> None:
        self._file.close()


def _column(field: pa.Field, objects: list[dict[str, Any]], invalid: dict[int, str]) -> pa.Array:
    values = [row.get(field.name) for row in objects]
    if not _loses(values, field.type):
        with contextlib.suppress(*_NO_ARRAY):
            return pa.array(values, field.type)
    for position, value in enumerate(values):  # find the rows that do not fit, keep the others
        try:
            if _loses([value], field.type):
                raise pa.ArrowInvalid("it would be another value")
            pa.array([value], field.type)
        except _NO_ARRAY:
            invalid.setdefault(position, f"field {field.name!r} is not a {field.type}")
            values[position] = None
    return pa.array(values, field.type)


def _loses(values: list[Any], kind: pa.DataType) -> bool:
    """Whether pyarrow would take one of the values for another one: 1.5 for the integer 1, and
    where objects are meant a list for one without fields."""
    if pa.types.is_integer(kind):
        return any(type(v) is float and not v.is_integer() for v in values)
    if pa.types.is_struct(kind):
        objects = [v for v in values if isinstance(v, dict)]
        return any(isinstance(v, list) for v in values) or any(
            _loses([v.get(field.name) for v in objects], field.type) for field in kind
        )
    if pa.types.is_list(kind):
        inner = [v for value in values if isinstance(value, list) for v in value]
        return _loses(inner, kind.value_type)
    return False
