"""JSON Lines as an input format: one object per line. An invalid line becomes an error row.

A file is read completely before its types are chosen (see ``jsonl.types``), so no later value is
dropped or rounded.
"""

from __future__ import annotations

import json
import os
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import islice
from typing import Any, cast

import msgspec
import pyarrow as pa

from pipeline.errors import HalfWritten, UsageError
from pipeline.input.formats.base import STRIDE, Mark, Reader, Rows, ScannedFile, open_file, pieces
from pipeline.input.formats.jsonl.second import SecondLines
from pipeline.input.formats.jsonl.types import (
    NO_ARRAY,
    Raw,
    Values,
    column,
    filled,
    has_fractions,
    is_begun,
    is_whole,
)
from pipeline.input.formats.line_marks import lines_still_there, mark_of_lines
from pipeline.input.formats.protocol import Looked
from pipeline.input.formats.second_rows import SecondRows
from pipeline.input.schema.join import CommonSchema
from pipeline.input.shard import Shard
from pipeline.job.job import Input
from pipeline.storage.transient_errors import PLAN_SECONDS, reading

_MOST_LINE_BYTES = 256 << 20
_MOST_DEPTH = 64  # of nested objects and lists
_TOO_LONG = b"!"  # replaces a line that is too long
_BOM = b"\xef\xbb\xbf"
_MARKS = (b"\xef", b"\xef\xbb", _BOM, b"\xff", b"\xfe")  # first bytes of text in UTF-8 or UTF-16
# an integer has no minus zero: as a fraction it keeps its sign
_MINUS_ZERO = re.compile(rb"[:\[,][ \t]*-0[ \t]*[,\]}]")


def _whole(text: str) -> int | Raw:
    return Raw(text) if text == "-0" else int(text)


_told = json.JSONDecoder(parse_float=Raw, parse_int=_whole).decode
_quickly = msgspec.json.Decoder().decode


def scan(_path: str, readable: str, _source: Input) -> ScannedFile:
    """Read the file once: count the rows, note the byte offset of every STRIDE-th, and find the
    types of its columns. Raises UsageError."""
    rows, offsets, seen = _look(readable, count_places=False)
    if rows and not seen.kinds:
        raise UsageError(f"{readable}: no line of it is a JSON object")
    if rows and not seen.fields:
        raise UsageError(f"{readable}: the objects in its lines have no fields")
    schema = _schema([(readable, seen)], _look_again)
    return ScannedFile(rows, schema, offsets=tuple(offsets), details=seen)


def common_schema(files: Sequence[Looked]) -> CommonSchema:
    readable = {one.path: one.readable for one in files}

    def again(path: str) -> Values:
        return reading(path, partial(_look_again, readable[path]), PLAN_SECONDS)

    seen = [(one.path, cast(Values, one.scan.details)) for one in files]
    return CommonSchema(_schema(seen, again))


def open_reader(shard: Shard, schema: pa.Schema) -> Reader:
    return JsonlReader(shard.readable, schema, shard.offsets, shard.readable_size)


def open_second(shard: Shard) -> SecondRows:
    return SecondLines(shard)


def mark_of(shard: Shard) -> Mark:
    return mark_of_lines(shard, b"\n", bytes.strip)  # blank lines are no rows


def rows_still_there(shard: Shard, rows: int, mark: Mark, _quotes: str | None) -> int | None:
    def ends_line(after: bytes) -> bool:
        return after[:1] in (b"", b"\n") or after in (b"\r", b"\r\n")

    return lines_still_there(shard, rows, mark, ends_line)


def _look_again(path: str) -> Values:
    """The types of a file's values, with the number of digits after the decimal point."""
    return _look(path, count_places=True)[2]


def _schema(files: Sequence[tuple[str, Values]], again: Callable[[str], Values]) -> pa.Schema:
    """The schema of files, each given with the types of its values. ``again``: as ``_look_again``,
    called only if it decides. Raises UsageError."""
    seen = Values()
    for _, one in files:
        seen.add(one)
    if seen.needs_places:
        for path, _ in files:
            seen.add(again(path))
    if seen.too_odd:
        raise UsageError(
            f"{files[-1][0]}: its lines have more than {len(seen.fields)} different fields",
            'put what differs from line to line into one field, as text or as [{"key": …}, …]',
        )
    kinds = ((name, of.type()) for name, of in seen.fields.items())
    return pa.schema([(name, pa.string() if pa.types.is_null(k) else k) for name, k in kinds])


def _look(path: str, *, count_places: bool) -> tuple[int, array[int], Values]:
    """Rows, offsets, and the types of the objects in the lines."""
    seen = Values()
    seen.count_places = count_places
    offsets = array("q")
    rows = position = 0
    line, size = b"", 0
    with open_file(path) as file:
        for line, size in _lines(file):
            if line.strip():
                if rows % STRIDE == 0:
                    offsets.append(position)
                rows += 1
                value = _parse(line, _told if count_places else _quickly)
                if isinstance(value, dict):
                    seen.see(None)
                    seen.see_fields(value)
            position += size
        open_end = size == len(line)
        if line == _TOO_LONG:
            file.seek(-1, os.SEEK_END)
            open_end = file.read() != b"\n"
        if (
            open_end
            and not count_places
            and line.strip()
            and (_is_cut(line) or (rows == 1 and line in _MARKS))
        ):
            nothing = "" if seen.kinds else ", and no line of it is a JSON object"
            raise HalfWritten(
                f"{path}: its last line is cut{nothing}",
                "it is still being written, or was cut off: write it again, or remove that line",
            )
    return rows, offsets, seen


def _is_cut(line: bytes) -> bool:
    """Whether a line is the beginning of a JSON object."""
    if line == _TOO_LONG:
        return True
    try:
        _quickly(line)
        return False
    except msgspec.DecodeError as e:
        if "truncated" in str(e):
            return True
    except UnicodeDecodeError:  # in a field's name
        pass
    except RecursionError:
        return False
    text = line.removeprefix(_BOM)
    return text.lstrip().startswith(b"{") and is_begun(text)  # in a number or word, or after NaN


def _lines(file: Any, most: int | None = None) -> Iterator[tuple[bytes, int]]:
    """Each line without its line end, and its length in bytes including the line end; a line that
    is far too long is replaced by a marker. ``most``: see ``pieces``."""
    begun: list[bytes] = []  # of a line without its end so far
    size = 0
    for piece in pieces(file, most):
        first, *others = piece.split(b"\n")
        size += len(first)
        begun.append(first if size <= _MOST_LINE_BYTES else b"")
        if not others:
            continue
        yield (b"".join(begun) if size <= _MOST_LINE_BYTES else _TOO_LONG), size + 1
        last = others.pop()
        for line in others:
            yield line, len(line) + 1
        begun, size = [last], len(last)
    if size:
        yield (b"".join(begun) if size <= _MOST_LINE_BYTES else _TOO_LONG), size


def _parse(line: bytes, decode: Callable[[Any], Any], at: int = 0) -> dict[str, Any] | str:
    """The object in a line, or what is wrong with the line. ``at``: the offset of its first
    byte."""
    if line == _TOO_LONG:
        return f"the line is longer than {_MOST_LINE_BYTES >> 20} MiB"
    try:
        value = _decoded(line, decode)
    except RecursionError:
        return f"the line has objects or lists nested deeper than {_MOST_DEPTH}"
    except UnicodeDecodeError as e:
        start = len(line) - len(e.object) + e.start  # after a byte order mark
        byte = f"byte 0x{line[start]:02x} at offset {at + start:,}"
        return f"{byte} is not UTF-8: say how the file is written, input: {{encoding: cp1252}}, …"
    except ValueError as e:
        large = str(e) if str(e).endswith("number") else ""
        return f"the line holds {large}" if large else "the line is not a JSON object"
    if not isinstance(value, dict):
        return "the line is not a JSON object"
    if line.count(b"[") + line.count(b"{") > _MOST_DEPTH and _is_deep(value):
        return f"the line has objects or lists nested deeper than {_MOST_DEPTH}"
    if not all(name.isascii() or is_whole(name) for name in value):
        return "a field's name holds half of a surrogate pair"
    return value


def _decoded(line: bytes, decode: Callable[[Any], Any]) -> Any:
    if decode is _quickly and not (b"-0" in line and _MINUS_ZERO.search(line)):
        try:
            return decode(line)
        except (msgspec.MsgspecError, ValueError):
            pass  # msgspec is stricter than other JSON readers: NaN, half surrogate pairs
    return _told(line.removeprefix(_BOM).decode())


def _is_deep(value: Any) -> bool:
    waiting = [(value, 1)]
    while waiting:
        part, depth = waiting.pop()
        if depth > _MOST_DEPTH:
            return True
        inner = part.values() if isinstance(part, dict) else part
        waiting += [(v, depth + 1) for v in inner if isinstance(v, dict | list)]
    return False


class JsonlReader:
    """Seeks to the indexed offset before a row and parses from there. ``size``: bytes of the file,
    if it may have been appended to since the scan: its last line may be longer now."""

    def __init__(
        self, path: str, schema: pa.Schema, offsets: tuple[int, ...], size: int | None = None
    ) -> None:
        self._file = open_file(path)
        self._schema = schema
        self._offsets = offsets
        self._size = size

    def read(self, start: int, stop: int) -> Rows:
        found = self._lines(start, stop)
        lines = [line for _, line in found]
        objects: list[dict[str, Any]] = []
        invalid: dict[int, str] = {}
        for position, (at, line) in enumerate(found):
            value = _parse(line, _quickly, at)
            if isinstance(value, str):
                invalid[position] = value
                value = {}
            objects.append(value)
        told = _LineValues(lines, self._schema)
        columns = [_column(field, objects, invalid, told) for field in self._schema]
        table = pa.Table.from_arrays(columns, schema=self._schema)
        return Rows(table, invalid, told)

    def _lines(self, start: int, stop: int) -> list[tuple[int, bytes]]:
        """Each line with the offset of its first byte in the file."""
        index = start // STRIDE
        self._file.seek(self._offsets[index])

        def lines() -> Iterator[tuple[int, bytes]]:
            at = self._offsets[index]
            most = None if self._size is None else self._size - at
            for line, size in _lines(self._file, most):
                if line.strip():
                    yield at, line
                at += size

        return list(islice(lines(), start - index * STRIDE, stop - index * STRIDE))

    def close(self) -> None:
        self._file.close()


class _LineValues:
    """Values of columns as the lines write them; the lines are parsed at the first request."""

    def __init__(self, lines: list[bytes], schema: pa.Schema) -> None:
        self._lines = lines
        self._schema = schema

    @cached_property
    def _objects(self) -> list[dict[str, Any]]:
        parsed = (_parse(line, _told) for line in self._lines)
        return [value if isinstance(value, dict) else {} for value in parsed]

    def __call__(self, name: str) -> list[Any] | None:
        kind = self._schema.field(name).type
        if not has_fractions(kind):
            return None
        return [filled(value, kind) for value in self.values(name)]

    def values(self, name: str) -> list[Any]:
        return [value.get(name) for value in self._objects]


def _column(
    field: pa.Field, objects: list[dict[str, Any]], invalid: dict[int, str], told: _LineValues
) -> pa.Array:
    values = [row.get(field.name) for row in objects]
    try:
        return column(values, field.type, lambda: told.values(field.name))
    except NO_ARRAY:
        values = told.values(field.name)
    for position, value in enumerate(values):  # find the rows with errors, keep the others
        try:
            column([value], field.type)
        except NO_ARRAY:
            invalid.setdefault(position, f"field {field.name!r} is not a {field.type}")
            values[position] = None
    return column(values, field.type)
