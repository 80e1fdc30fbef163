"""The input read once more, by other parsers than the run's, so that a fault of a reader shows.

Nothing is made into columns: of JSON Lines each value, of CSV, which a regular expression takes
apart, each cell is compared with what the output holds. Parquet is read whole row groups at a time.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.feather as feather
import pyarrow.orc as orc

from pipeline.input.cast_check import says_cast
from pipeline.input.formats.base import open_parquet, open_raw
from pipeline.input.formats.csv.records import Dialect, blocks
from pipeline.input.formats.jsonl.array import values_of
from pipeline.input.formats.unpack import encoding_in
from pipeline.input.json_reading import says_json, value_of
from pipeline.input.plain import first_difference, plain_rows, same_value
from pipeline.input.shards import Shard

_PIECE = 1 << 20  # bytes
_PACKED = ("gzip", "bz2", "zstd", "xz")


class Told(Protocol):
    """One file, front to back. ``cast``: columns that ``input.cast`` gives another type."""

    cast: frozenset[str]

    def skip(self, rows: int) -> None: ...

    def differs(self, ours: pa.Table, names: Sequence[tuple[str, str]]) -> tuple[int, str] | None:
        """The first of the next rows, and its column, that is not what the file says. ``names``:
        (in the file, in the output)."""


class SecondReading:
    """Of the shards of an input, in order."""

    def __init__(
        self,
        shards: Sequence[Shard],
        names: Sequence[tuple[str, str]],
        cast: Iterable[str] = (),
    ) -> None:
        self._cast = frozenset(cast)
        self._shards = shards
        self._names = names
        self._shard = -1
        self._row = 0
        self._told: Told | None = None

    def differs(self, shard: int, start: int, ours: pa.Table) -> tuple[int, str] | None:
        """The first row of the file and column in which the output, whose first row is ``start``
        of the file, is not what the file says. Raises OSError, ValueError."""
        told = self._told
        if told is None or shard != self._shard or start < self._row:
            one = self._shards[shard]
            told = self._told = _FORMATS[one.format](one)
            told.cast = self._cast
            self._shard, self._row = shard, 0
        told.skip(start - self._row)
        self._row = start + ours.num_rows
        partition = dict(self._shards[shard].partition)
        for name, new in self._names:
            if name in partition and _all_text(ours.column(new)) - {partition[name]}:
                return start, new
        found = told.differs(ours, [pair for pair in self._names if pair[0] not in partition])
        return None if found is None else (start + found[0], found[1])


def _all_text(column: pa.ChunkedArray) -> set[str | None]:
    return {None if value is None else str(value) for value in pc.unique(column).to_pylist()}


class _Rows(ABC):
    """Files whose rows come one by one."""

    cast: frozenset[str] = frozenset()

    def __init__(self, rows: Iterator[Any]) -> None:
        self._rows = rows

    def skip(self, rows: int) -> None:
        for _ in range(rows):
            next(self._rows, None)

    def differs(self, ours: pa.Table, names: Sequence[tuple[str, str]]) -> tuple[int, str] | None:
        columns = [(old, new, plain_rows(ours.select([new]))[0]) for old, new in names]
        refused = _refused(ours)
        for row in range(ours.num_rows):
            told = next(self._rows, _END)
            for old, new, values in columns:
                value = values[row].get(new)
                if old in self.cast:
                    alike = told is not _END and says_cast(value, self._says(told, old))
                else:
                    alike = told is not _END and self._alike(value, told, old)
                if not alike:
                    if value is None and refused[row]:
                        continue  # the row came out as an error, without it
                    return row, new
        return None

    @abstractmethod
    def _alike(self, value: Any, told: Any, name: str) -> bool:
        """Whether an output's value is what the row ``told`` says under the name."""

    @abstractmethod
    def _says(self, told: Any, name: str) -> Any:
        """What the row ``told`` says under the name; None: nothing."""


_END = object()


def _refused(ours: pa.Table) -> list[bool]:
    if "error" not in ours.column_names:
        return [False] * ours.num_rows
    errors = ours.column("error").to_pylist()
    return [error is not None and error.get("type") == "InvalidRow" for error in errors]


class _Lines(_Rows):
    def __init__(self, shard: Shard) -> None:
        super().__init__(_entries(shard) if "array" in shard.kind else _objects(shard))

    def _alike(self, value: Any, told: Any, name: str) -> bool:
        return says_json(value, self._says(told, name))

    def _says(self, told: Any, name: str) -> Any:
        return told.get(name) if isinstance(told, dict) else None


def _entries(shard: Shard) -> Iterator[Any]:
    with _text(shard) as file:
        yield from values_of(file.read().decode("utf-8-sig", errors="surrogateescape"))


def _objects(shard: Shard) -> Iterator[Any]:
    with _text(shard) as file:
        for line in file:
            if not line.strip():
                continue
            value = None
            with suppress(ValueError, RecursionError):
                value = value_of(line)
            yield value


_NO_NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}  # as JSON writes them


class _Cells(_Rows):
    def __init__(self, shard: Shard) -> None:
        rows = _records(shard)
        names = [text for text, _ in next(rows, [])]
        self._places = {name: place for place, name in enumerate(names)}
        super().__init__(rows)

    def _alike(self, value: Any, told: Any, name: str) -> bool:
        text, quoted = self._cell(told, name)
        if value is None or not text:
            return (value is None) == (not quoted and not text) and (value or "") == text
        if isinstance(value, bool):
            return text == str(value).lower()
        if isinstance(value, float):
            return text == _NO_NUMBERS.get(repr(value), repr(value))
        return text == str(value)

    def _says(self, told: Any, name: str) -> Any:
        text, quoted = self._cell(told, name)
        return text if text or quoted else None

    def _cell(self, told: Any, name: str) -> tuple[str, bool]:
        place = self._places.get(name)
        found: tuple[str, bool] = ("", False) if place is None else told[place]
        return found


def _records(shard: Shard) -> Iterator[list[tuple[str, bool]]]:
    """Of each record its cells: their text, and whether they were quoted."""

    def pieces() -> Iterator[bytes]:
        with _text(shard) as file:
            while piece := file.read(_PIECE):
                yield piece

    delimiter = shard.dialect.delimiter
    cell_of = _cell(shard.dialect)
    for block in blocks(pieces(), shard.dialect):
        text = block.content.decode()
        at, cells = 0, list[tuple[str, bool]]()
        while at < len(text):
            cell = cell_of.match(text, at)
            assert cell is not None  # it matches anything
            inside, rest, plain, end = cell.groups()
            cells.append(
                (plain, False) if inside is None else (inside.replace('""', '"') + rest, True)
            )
            at = cell.end()
            if end != delimiter:
                if cells != [("", False)]:
                    yield cells
                cells = []
        if cells:  # the file ends with a delimiter
            yield [*cells, ("", False)]


def _cell(dialect: Dialect) -> re.Pattern[str]:
    delimiter = re.escape(dialect.delimiter)
    other = rf"[^{delimiter}\r\n]*+"
    end = rf"({delimiter}|\r\n|\n|\r|\Z)"
    quote = '"' if dialect.quotes else r"(?!)"  # what is nowhere
    return re.compile(rf'(?:{quote}((?:[^"]|"")*+)"({other})|({other})){end}')


class _Groups:
    """Row groups, each read whole."""

    cast: frozenset[str] = frozenset()

    def __init__(self, shard: Shard) -> None:
        self._file = open_parquet(shard.path)
        self._next = 0  # row group
        self._table: pa.Table | None = None
        self._row = 0  # of the table

    def skip(self, rows: int) -> None:
        while rows > 0:
            if self._table is None or self._row == self._table.num_rows:
                size = self._file.metadata.row_group(self._next).num_rows
                if rows >= size:
                    self._next, rows = self._next + 1, rows - size
                    continue
                self._read()
            assert self._table is not None
            few = min(rows, self._table.num_rows - self._row)
            self._row, rows = self._row + few, rows - few

    def _read(self) -> None:
        self._table = self._file.read_row_group(self._next)
        self._next, self._row = self._next + 1, 0

    def _take(self, rows: int) -> pa.Table:
        parts: list[pa.Table] = []
        while rows > 0:
            if self._table is None or self._row == self._table.num_rows:
                if self._next >= self._file.num_row_groups:
                    raise ValueError("it has fewer rows than the output")
                self._read()
            assert self._table is not None
            parts.append(self._table.slice(self._row, rows))
            self._row, rows = self._row + parts[-1].num_rows, rows - parts[-1].num_rows
        return pa.concat_tables(parts) if parts else self._file.schema_arrow.empty_table()

    def differs(self, ours: pa.Table, names: Sequence[tuple[str, str]]) -> tuple[int, str] | None:
        theirs = self._take(ours.num_rows)
        found: list[tuple[int, str]] = []
        for old, new in names:
            if old not in theirs.column_names:
                theirs = theirs.append_column(old, pa.nulls(theirs.num_rows))
            same = says_cast if old in self.cast else same_value
            row = first_difference(ours.column(new), theirs.column(old), same)
            found += [(row, new)] if row is not None else []
        return min(found, default=None)


class _Whole(_Groups):
    """A file of Arrow's or ORC's own, read whole."""

    def __init__(self, shard: Shard) -> None:
        with open_raw(shard.path) as file:
            content = file.read()
        if shard.kind == "orc":
            self._whole = orc.read_table(pa.BufferReader(content))
        else:
            try:
                self._whole = feather.read_table(pa.BufferReader(content))
            except pa.ArrowInvalid:
                self._whole = pa.ipc.open_stream(content).read_all()
        self._row = 0

    def skip(self, rows: int) -> None:
        self._row += rows

    def _take(self, rows: int) -> pa.Table:
        taken = self._whole.slice(self._row, rows)
        if taken.num_rows < rows:
            raise ValueError("it has fewer rows than the output")
        self._row += rows
        return taken


@contextmanager
def _text(shard: Shard) -> Iterator[Any]:
    """What the file says, in UTF-8; packed ones by other libraries than the run's where there are
    such."""
    packing = next((one for one in _PACKED if one in shard.kind.split()), None)
    with ExitStack() as stack:
        file: Any = stack.enter_context(open_raw(shard.path))
        if packing == "xz":
            file = stack.enter_context(lzma.LZMAFile(file))
        elif packing:
            file = io.BufferedReader(_Unpacked(file, packing))
        encoding = encoding_in(shard.kind)
        yield _InUtf8(file, encoding) if encoding else file


class _Unpacked(io.RawIOBase):
    """A packed file as pyarrow unpacks it; where it does not know what to make of the bytes after
    the end, as zeros that fill up a tape, by Python's readers."""

    def __init__(self, file: Any, packing: str) -> None:
        self._packed = file
        self._packing = packing
        self._file: Any = pa.CompressedInputStream(pa.PythonFile(file, "r"), packing)
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            found = self._file.read(len(buffer))
        except OSError as e:
            if e.errno is not None or self._packing not in _LENIENT:
                raise
            self._given_up = self._file  # it would close the file below with it
            self._packed.seek(0)
            self._file = _LENIENT[self._packing](self._packed)
            self._file.seek(self._at)
            found = self._file.read(len(buffer))
        self._at += len(found)
        buffer[: len(found)] = found
        return len(found)


_LENIENT: Mapping[str, Callable[[Any], Any]] = {
    "gzip": lambda file: gzip.GzipFile(fileobj=file),
    "bz2": bz2.BZ2File,
}


class _InUtf8:
    """The bytes of a file as if it were in UTF-8. Lines end with LF alone: codecs' own readers end
    them also at what JSON and CSV have inside of a text."""

    def __init__(self, file: Any, encoding: str) -> None:
        self._text = io.TextIOWrapper(file, encoding, newline="\n")

    def __iter__(self) -> Iterator[bytes]:
        return map(_utf8, self._text)

    def read(self, size: int = -1) -> bytes:
        """``size`` in characters."""
        return _utf8(self._text.read(size))


def _utf8(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


_FORMATS: Mapping[str, Callable[[Shard], Told]] = {
    "jsonl": _Lines,
    "csv": _Cells,
    "parquet": lambda shard: _Whole(shard) if shard.kind else _Groups(shard),
}
