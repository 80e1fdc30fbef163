"""CSV input with a header line, quotes and line breaks inside them. An empty cell is null.

A column is numeric only if every cell is written exactly as a prompt would write that number, so
that the output equals the input: a code with a leading zero, ``1e5`` and ``2.50`` are text.
"""

from __future__ import annotations

import io
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from pipeline.errors import HalfWritten, UsageError
from pipeline.input.formats.base import STRIDE, Rows, ScannedFile, open_file, pieces
from pipeline.input.formats.csv.delimiter import RECORDS, delimiter_of
from pipeline.input.formats.csv.records import (
    BOM,
    Dialect,
    OpenQuote,
    Records,
    blocks,
    cells_in,
    irregular_line,
    is_stray,
)
from pipeline.input.formats.names import delimiter_by_name, is_tsv
from pipeline.input.schema.conform import conform
from pipeline.job.job import Input
from pipeline.job.template.field_text import as_text

_HEAD = 1 << 16  # bytes used to find the delimiter
_CLOSE = "close the quote, or double it where it is part of a text; wait if it is being written"
_LETTERS = "where quotes are letters, say so: input: {quotes: none}"
_ROW = re.compile(r"Row #(\d+): ")
_MOST_AT_ONCE = 256 << 20  # bytes of records; Arrow takes 2 GiB
# tried in this order on every column; otherwise the column is text
_TYPES = (pa.int64(), pa.float64(), pa.bool_())


def dialect_of(path: str, readable: str, source: Input) -> Dialect:
    """The dialect of a file, which is read from the path ``readable``: set by the job, by its name,
    or found in its first records. Raises as ``find_delimiter``."""
    quotes = source.quotes != "none"
    told = delimiter_by_name(path) if source.delimiter == "auto" else source.delimiter
    delimiter = told or find_delimiter(readable, quotes=quotes)
    return Dialect(delimiter, quotes, source.quotes is None and is_tsv(path, delimiter))


def find_delimiter(path: str, *, quotes: bool = True) -> str:
    """A file's delimiter, found in its first records. ``quotes``: see ``Dialect``. Raises
    UsageError; HalfWritten if the records that decide may not be written yet."""
    with open_file(path) as file:
        head = file.read(_HEAD + 1)
    text = head[:_HEAD].removeprefix(BOM).decode(errors="replace")
    has_end = text.endswith(("\n", "\r"))
    try:
        return delimiter_of(path, text, whole=len(head) <= _HEAD and has_end, quotes=quotes)
    except UsageError as e:
        if len(head) > _HEAD or has_end or len(text.splitlines()) > RECORDS:
            raise
        raise HalfWritten(f"{e.message}; its last line has no end", *e.hints) from None


def scan_as(path: str, dialect: Dialect) -> ScannedFile:
    """Read the file once, block by block: its rows, the byte offset of every STRIDE-th, and for
    each column a type that fits all its cells. Raises UsageError, with the line; HalfWritten."""
    rows = longest = 0
    offsets = array("q")
    names: list[str] = []
    left: list[list[pa.DataType]] = []
    filled: list[bool] = []
    quoted = False
    try:
        for block in _blocks(path, dialect):
            first = 0
            if dialect.strict:
                _check_quotes(path, block, dialect)
            if not names:
                names = _header(path, block, dialect)
                left, filled, first = [list(_TYPES) for _ in names], [False for _ in names], 1
            if _is_cut(block, names, dialect):
                raise _cut(path, block)
            quoted = quoted or b'"' in block.content
            longest = max(longest, block.longest)
            starts = block.starts[first:]
            if not len(starts):
                continue
            offsets.extend((block.offset + starts[-rows % STRIDE :: STRIDE]).tolist())
            rows += len(starts)
            table = _checked(path, block, first, names, dialect)
            for number, column in enumerate(table.columns):
                left[number] = [t for t in left[number] if _writes_alike(column, t)]
                filled[number] = filled[number] or column.null_count < len(column)
    except OpenQuote as e:
        if is_stray(e, dialect, len(names), longest):
            raise UsageError(f"{path}: {e}", _CLOSE, _LETTERS) from None
        raise HalfWritten(f"{path}: {e}", _CLOSE, _LETTERS) from None
    kinds = [
        (types or [pa.string()])[0] if some else pa.null()
        for types, some in zip(left, filled, strict=True)
    ]
    schema = pa.schema(list(zip(names, kinds, strict=True)))
    return ScannedFile(
        rows,
        schema,
        offsets=tuple(offsets),
        delimiter="" if dialect.delimiter == "," else dialect.delimiter,
        quotes="none" if quoted and not dialect.quotes else "",
    )


def _blocks(path: str, dialect: Dialect, size: int | None = None) -> Iterator[Records]:
    """``size``: bytes of the file to read."""
    with open_file(path) as file:
        try:
            yield from blocks(pieces(file, size), dialect)
        except OpenQuote:
            raise
        except ValueError as e:
            raise UsageError(f"{path}: {e}", _CLOSE, *([_LETTERS] if dialect.quotes else [])) from e


def _check_quotes(path: str, block: Records, dialect: Dialect) -> None:
    """Raise UsageError if quotes may be letters; HalfWritten if the file ends with such quotes."""
    delimiter = dialect.delimiter.encode()
    content = block.content
    at = irregular_line(content, delimiter)
    if at is None:
        return
    line = content[at:]
    is_last = not block.has_end and len(line.splitlines()) == 1
    if is_last and irregular_line(line + b'"', delimiter) is None:
        raise _cut(path, block)
    number = block.line_at(at)
    raise UsageError(
        f"{path}: line {number} has quotes that may be letters, as in much TSV: they are not "
        "around whole cells, or not closed in their line",
        "say what they are: input: {quotes: none} reads them as letters, input: {quotes: double} "
        "as CSV does, where a cell in quotes may have several lines",
    )


def _is_cut(block: Records, names: list[str], dialect: Dialect) -> bool:
    """Whether it is a file's last block and ends with an incomplete record (too few cells and no
    line end), or within a character."""
    if block.has_end or not names or not len(block.starts):
        return False
    last = block.content[block.starts[-1] :]
    return cells_in(last, dialect) < len(names) or _ends_within_a_character(last)


def _ends_within_a_character(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError as e:
        return e.reason == "unexpected end of data"
    return False


def _cut(path: str, block: Records) -> HalfWritten:
    return HalfWritten(
        f"{path}: line {block.line_of(len(block.starts) - 1)}, its last one, is cut",
        "it is still being written, or was cut off: write it again, or remove that line",
    )


def _header(path: str, block: Records, dialect: Dialect) -> list[str]:
    """The names in the first record. Raises UsageError; HalfWritten if the record has no end."""
    content = block.content[: block.starts[1] if len(block.starts) > 1 else None]
    start = int(block.starts[0]) if len(block.starts) else len(content)
    if content[start:] and not content.endswith((b"\n", b"\r")):
        raise _cut(path, block)
    _check_utf8(path, block, content)
    content = content[start:]
    if not content:
        return []
    try:
        read = pyarrow.csv.read_csv(
            io.BytesIO(content),
            read_options=pyarrow.csv.ReadOptions(block_size=len(content) + 1, use_threads=False),
            parse_options=_parse(dialect),
        )
        names = list(read.schema.names)
    except (pa.ArrowException, UnicodeDecodeError) as e:
        raise UsageError(f"{path}: {e}", "fix the header line, or save it as UTF-8") from None
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise UsageError(f"{path}: the header names {twice[0]!r} twice", "rename one of them")
    return names


def _check_utf8(path: str, block: Records, content: bytes) -> None:
    """Raise UsageError for the first byte of ``content``, the beginning of the block, that is not
    UTF-8."""
    try:
        content.decode()
    except UnicodeDecodeError as e:
        line = block.line + content[: e.start].count(b"\n")
        raise UsageError(
            f"{path}: line {line}: byte 0x{content[e.start]:02x} at offset "
            f"{block.offset + e.start:,} is not UTF-8",
            "say how it is written: input: {encoding: cp1252} (Windows), latin-1, …",
        ) from None


def _checked(path: str, block: Records, first: int, names: list[str], dialect: Dialect) -> pa.Table:
    """The block's records from number ``first`` on, as text."""
    try:
        table = _table(block.content[block.starts[first] :], names, dialect)
    except (pa.ArrowException, UnicodeDecodeError) as e:
        _check_utf8(path, block, block.content)
        place, why = "", str(e)
        if found := _ROW.search(why):
            place = f" line {block.line_of(first + int(found[1]) - 1)}:"
            why = why[found.end() :]
        raise UsageError(f"{path}:{place} {why}", "fix the line, or quote its cells") from None
    if table.num_rows != len(block.starts) - first:
        raise UsageError(
            f"{path}: the quotes after line {block.line} are in odd places",
            "quote whole cells, and double the quotes in them",
            _LETTERS,
        )
    return table


def _table(content: bytes, names: list[str], dialect: Dialect) -> pa.Table:
    """Whole records as text, in a single block: at block boundaries pyarrow may lose the CR of a
    CR LF, and at the end of a file without a final line end it may confuse the last cell's quotes
    with those of the cell before."""
    if not content.endswith((b"\n", b"\r")):
        content += b"\n"
    return pyarrow.csv.read_csv(
        io.BytesIO(content),
        read_options=pyarrow.csv.ReadOptions(
            column_names=names, block_size=len(content) + 1, use_threads=False
        ),
        parse_options=_parse(dialect),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name: pa.string() for name in names},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _parse(dialect: Dialect) -> pyarrow.csv.ParseOptions:
    quote = '"' if dialect.quotes else False
    return pyarrow.csv.ParseOptions(
        delimiter=dialect.delimiter, quote_char=quote, newlines_in_values=True
    )


def _writes_alike(column: pa.ChunkedArray, kind: pa.DataType) -> bool:
    """Whether writing the typed value gives exactly the text of every cell."""
    try:
        values = pc.cast(column, kind)
    except pa.ArrowInvalid:
        return False
    if not pa.types.is_floating(kind):  # Arrow writes integers and booleans as we do
        return pc.all(pc.equal(pc.cast(values, pa.string()), column)).as_py() is not False
    cells = zip(values.to_pylist(), column.to_pylist(), strict=True)
    return all(text is None or as_text(value) == text for value, text in cells)


class CsvReader:
    """Seeks to the indexed offset before a row and parses from there. ``size``: bytes of the file,
    if it may have been appended to since the scan."""

    def __init__(
        self,
        path: str,
        schema: pa.Schema,
        offsets: tuple[int, ...],
        dialect: Dialect,
        size: int | None = None,
    ) -> None:
        self._schema = schema
        self._dialect = dialect
        with_records = (block for block in _blocks(path, dialect, size) if len(block.starts))
        first = next(with_records, None)
        if first is None:
            raise ValueError("it has no header")
        self._names = _header(path, first, dialect)
        self._file = open_file(path)
        end = self._file.seek(0, os.SEEK_END) if size is None else size
        self._offsets = (*offsets, int(end))

    def read(self, start: int, stop: int) -> Rows:
        first, last = start // STRIDE, min(-(-stop // STRIDE), len(self._offsets) - 1)
        self._file.seek(self._offsets[first])
        size = self._offsets[last] - self._offsets[first]
        before, wanted = start - first * STRIDE, stop - start
        if size <= _MOST_AT_ONCE:
            text = _table(self._file.read(size), self._names, self._dialect)
            text = text.slice(before, wanted)
        else:
            text = self._in_blocks(size, before, wanted)
        return Rows(*conform(text, self._schema))

    def _in_blocks(self, size: int, before: int, wanted: int) -> pa.Table:
        """The ``wanted`` records after the first ``before`` in the next ``size`` bytes, block by
        block: a few records with large cells exceed what Arrow takes at once, and others need no
        memory."""
        tables = [_table(b"", self._names, self._dialect)]
        for block in blocks(pieces(self._file, size), self._dialect):
            here = min(wanted, max(0, len(block.starts) - before))
            if here:
                begins = block.starts[before]
                ends = block.starts[before + here] if before + here < len(block.starts) else None
                tables.append(_table(block.content[begins:ends], self._names, self._dialect))
                wanted -= here
            before = max(0, before - len(block.starts))
            if not wanted:
                break
        return pa.concat_tables(tables)

    def close(self) -> None:
        self._file.close()
