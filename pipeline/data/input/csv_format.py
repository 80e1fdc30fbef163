"""CSV input with a header line, quotes and line breaks inside them. An empty cell is null.

A column is of numbers only where every cell is written as a prompt would write that number, so that
what comes out reads as what went in: a code with a leading zero, ``1e5`` and ``2.50`` are text.
"""

from __future__ import annotations

import csv
import io
import re
from array import array
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from pipeline.data.input.conform import conform
from pipeline.data.input.csv_records import Block, blocks
from pipeline.data.input.delimiter import delimiter_of
from pipeline.data.input.formats import STRIDE, Rows, ScannedFile, open_file
from pipeline.errors import HalfWritten, UsageError
from pipeline.spec.template import as_text

_PIECE = 1 << 20  # bytes read at a time
_HEAD = 1 << 16  # bytes by which it is told what separates cells
_BOM = b"\xef\xbb\xbf"
_ROW = re.compile(r"Row #(\d+): ")
# tried in this order on every column; text is what is left
_TYPES = (pa.int64(), pa.float64(), pa.bool_())


def find_delimiter(path: str) -> str:
    """What separates a file's cells, by its first records. Raises UsageError."""
    with open_file(path) as file:
        head = file.read(_HEAD + 1)
    text = head[:_HEAD].removeprefix(_BOM).decode(errors="replace")
    return delimiter_of(path, text, whole=len(head) <= _HEAD)


def scan(path: str, delimiter: str = ",") -> ScannedFile:
    """Read the file once, block by block: its rows, the byte offset of every STRIDE-th, and for
    each column a type that all its cells have. Raises UsageError, with the line."""
    rows = 0
    offsets = array("q")
    names: list[str] = []
    left: list[list[pa.DataType]] = []
    filled: list[bool] = []
    for block in _blocks(path, delimiter):
        first = 0
        if not names:
            names = _header(path, block, delimiter)
            left, filled, first = [list(_TYPES) for _ in names], [False for _ in names], 1
        if _is_cut(block, names, delimiter):
            raise HalfWritten(
                f"{path}: line {block.line_of(len(block.starts) - 1)}, its last one, is cut",
                "it is still being written, or was cut off: write it again, or remove that line",
            )
        starts = block.starts[first:]
        if not len(starts):
            continue
        offsets.extend((block.offset + starts[-rows % STRIDE :: STRIDE]).tolist())
        rows += len(starts)
        table = _checked(path, block, first, names, delimiter)
        for number, column in enumerate(table.columns):
            left[number] = [t for t in left[number] if _writes_alike(column, t)]
            filled[number] = filled[number] or column.null_count < len(column)
    kinds = [
        (types or [pa.string()])[0] if some else pa.null()
        for types, some in zip(left, filled, strict=True)
    ]
    return ScannedFile(
        rows, pa.schema(list(zip(names, kinds, strict=True))), offsets=tuple(offsets)
    )


def _blocks(path: str, delimiter: str) -> Iterator[Block]:
    try:
        yield from blocks(_pieces(path), delimiter.encode())
    except ValueError as e:
        raise HalfWritten(
            f"{path}: {e}", "close it, or double it where it is part of a text"
        ) from e


def _is_cut(block: Block, names: list[str], delimiter: str) -> bool:
    """Whether it is a file's last, with a record at its end that has too few cells and no end."""
    if block.content.endswith((b"\n", b"\r")) or not names or not len(block.starts):
        return False
    last = block.content[block.starts[-1] :].decode(errors="replace")
    cells = next(csv.reader(io.StringIO(last, newline=""), delimiter=delimiter), [])
    return len(cells) < len(names)


def _pieces(path: str) -> Iterator[bytes]:
    with open_file(path) as file:
        while piece := file.read(_PIECE):
            yield piece


def _header(path: str, block: Block, delimiter: str) -> list[str]:
    """The names in the first record."""
    content = block.content[: block.starts[1] if len(block.starts) > 1 else None]
    start = int(block.starts[0]) if len(block.starts) else len(content)
    _check_utf8(path, block, content)
    content = content[start:].removeprefix(_BOM)
    if not content:
        return []
    try:
        read = pyarrow.csv.read_csv(io.BytesIO(content), parse_options=_parse(delimiter))
        names = list(read.schema.names)
    except (pa.ArrowException, UnicodeDecodeError) as e:
        raise UsageError(f"{path}: {e}", "mend the header line, or save it as UTF-8") from None
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise UsageError(f"{path}: the header names {twice[0]!r} twice", "rename one of them")
    return names


def _check_utf8(path: str, block: Block, content: bytes) -> None:
    """Raise UsageError for the first byte of ``content``, with which the block begins, that is not
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


def _checked(path: str, block: Block, first: int, names: list[str], delimiter: str) -> pa.Table:
    """The block's records from the ``first`` on, as text."""
    try:
        table = _table(block.content[block.starts[first] :], names, delimiter)
    except (pa.ArrowException, UnicodeDecodeError) as e:
        _check_utf8(path, block, block.content)
        place, why = "", str(e)
        if found := _ROW.search(why):
            place = f" line {block.line_of(first + int(found[1]) - 1)}:"
            why = why[found.end() :]
        raise UsageError(f"{path}:{place} {why}", "mend the line, or quote its cells") from None
    if table.num_rows != len(block.starts) - first:
        raise UsageError(
            f"{path}: the quotes after line {block.line} are in odd places",
            "quote whole cells, and double the quotes in them",
        )
    return table


def _table(content: bytes, names: list[str], delimiter: str) -> pa.Table:
    """Whole records as text, in a single block: at the edges of blocks pyarrow may lose the CR of
    a CR LF."""
    return pyarrow.csv.read_csv(
        io.BytesIO(content),
        read_options=pyarrow.csv.ReadOptions(
            column_names=names, block_size=len(content) + 1, use_threads=False
        ),
        parse_options=_parse(delimiter),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name: pa.string() for name in names},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _parse(delimiter: str) -> pyarrow.csv.ParseOptions:
    return pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)


def _writes_alike(column: pa.ChunkedArray, kind: pa.DataType) -> bool:
    """Whether every cell is what is written for the value that the type makes of it."""
    try:
        values = pc.cast(column, kind)
    except pa.ArrowInvalid:
        return False
    if not pa.types.is_floating(kind):  # Arrow writes integers and truths as we do
        return pc.all(pc.equal(pc.cast(values, pa.string()), column)).as_py() is not False
    cells = zip(values.to_pylist(), column.to_pylist(), strict=True)
    return all(text is None or as_text(value) == text for value, text in cells)


class CsvReader:
    """Seeks to the indexed offset before a row and parses from there. ``offsets``: as a scan of the
    file gives them; without, it is scanned."""

    def __init__(
        self, path: str, schema: pa.Schema, offsets: tuple[int, ...] = (), delimiter: str = ","
    ) -> None:
        self._offsets = offsets or scan(path, delimiter).offsets
        self._file = open_file(path)
        self._schema = schema
        self._delimiter = delimiter
        self._names = _header(path, next(_blocks(path, delimiter)), delimiter)

    def read(self, start: int, stop: int) -> Rows:
        first, last = start // STRIDE, -(-stop // STRIDE)
        self._file.seek(self._offsets[first])
        end = self._offsets[last] - self._offsets[first] if last < len(self._offsets) else -1
        text = _table(self._file.read(end), self._names, self._delimiter)
        text = text.slice(start - first * STRIDE, stop - start)
        return Rows(*conform(text, self._schema))

    def close(self) -> None:
        self._file.close()
