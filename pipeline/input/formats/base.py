"""What every format's code shares: opening files, scans, rows in order, marks to begin at."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UsageError
from pipeline.input.plain import plain_rows
from pipeline.storage.transient_errors import passes

# first bytes of files, and patterns of their last bytes. The last entry: Arrow streams
_MAGICS = {
    b"PAR1": rb"PAR1",
    b"ARROW1": rb"ARROW1",
    b"FEA1": rb"FEA1",
    b"ORC": rb"ORC.",
    b"\xff\xff\xff\xff": rb"\xff\xff\xff\xff\0\0\0\0",
}
_MAGIC_BYTES = 8
_PIECE = 1 << 20  # bytes read at a time
STRIDE = 128  # rows between two indexed byte offsets of a text file


@dataclass(frozen=True)
class ScannedFile:
    """What planning needs to know about one file. ``details``: only for the format's own code;
    ``delimiter``, ``quotes``: of CSV, as in a ``Shard``."""

    rows: int
    schema: pa.Schema
    boundaries: tuple[int, ...] = ()
    offsets: tuple[int, ...] = ()
    details: object = None
    delimiter: str = ""
    quotes: str = ""


@dataclass(frozen=True)
class Rows:
    """Consecutive input rows; ``invalid``: what is wrong with single rows, by position.

    ``told``: the values of a column as the file writes them, if its type loses that: 1 next to
    2.5, 0.10; None for a column whose type loses nothing.
    """

    table: pa.Table
    invalid: dict[int, str] = field(default_factory=dict)
    told: Callable[[str], Sequence[Any] | None] | None = None

    def plain(self, columns: Sequence[str]) -> PlainRows:
        """The values for prompts."""
        told = {name: self.told(name) for name in columns} if self.told else {}
        known = {name: values for name, values in told.items() if values is not None}
        return PlainRows(self.table.select([c for c in columns if c not in known]), known, self)


@dataclass(frozen=True)
class PlainRows:
    """Some columns of rows, read as Python values a few rows at a time."""

    table: pa.Table
    told: Mapping[str, Sequence[Any]]
    rows: Rows

    def read(self, start: int, stop: int) -> tuple[list[dict[str, Any]], dict[int, str]]:
        """Rows start..stop, and what is wrong with some, by position counted from ``start``."""
        stop = min(stop, self.rows.table.num_rows)
        values, wrong = plain_rows(self.table.slice(start, stop - start))
        values = values or [{} for _ in range(stop - start)]  # no column is left
        for name, told in self.told.items():
            for row, value in zip(values, told[start:stop], strict=True):
                row[name] = value
        invalid = self.rows.invalid
        wrong |= {at - start: why for at, why in invalid.items() if start <= at < stop}
        return values, wrong


def open_raw(path: str) -> Any:
    """As ``open_file``. Raises OSError. A local file is opened by its exact name; no character in
    it has a special meaning."""
    return fsspec.open(path, "rb").open() if "://" in path else open(path, "rb")


def open_parquet(path: str) -> pq.ParquetFile:
    """Has to be closed with ``force``: it does not know that it owns the file below. Raises
    OSError, and pyarrow's errors for other files. Arrow itself opens a local file, by the bytes of
    its name: it takes no name as text that is not UTF-8."""
    remote = "://" in path
    file = open_raw(path) if remote else pa.OSFile(os.fsencode(path))
    return pq.ParquetFile(file, pre_buffer=remote)


def open_file(path: str) -> Any:
    """A file's bytes. Raises UsageError, and transient OSErrors."""
    try:
        return open_raw(path)
    except OSError as e:
        if passes(e):
            raise  # the caller waits and retries
        raise UsageError(f"{path} cannot be read: {e}") from None


def pieces(file: Any, most: int | None = None) -> Iterator[bytes]:
    """The bytes of a file from its position on, one MiB at a time. ``most``: at most so many, for a
    file that may be appended to meanwhile."""
    left = sys.maxsize if most is None else most
    while piece := file.read(min(_PIECE, left)):
        left -= len(piece)
        yield piece


def hash_of(file: Any, size: int, begin: bytes = b"") -> str:
    """The SHA-256 of ``begin`` and the next ``size`` bytes; "" if there are fewer."""
    found = hashlib.sha256(begin)
    while size > 0 and (part := file.read(min(size, _PIECE))):
        found.update(part)
        size -= len(part)
    return "" if size else found.hexdigest()


def lacks_its_end(path: str) -> bool:
    """Whether a binary file begins as its format requires, but does not end as it requires."""
    with open_file(path) as file:
        head = file.read(_MAGIC_BYTES)
        file.seek(0, os.SEEK_END)
        size = file.tell()
        file.seek(max(0, size - _MAGIC_BYTES))
        tail = file.read()
    ends = [end for m, end in _MAGICS.items() if head.startswith(m) or m.startswith(head)]
    whole = [re.search(end + rb"\Z", tail, re.DOTALL) for end in ends]
    return bool(ends) and (size < 2 * _MAGIC_BYTES or not any(whole))


@dataclass(frozen=True)
class Mark:
    """Identifies the rows of a file, to recognize them in one that grew. ``whole``: the hash of
    ``size`` bytes. ``tail``: the hash of the next ``tail_size`` bytes, a last line without end; ""
    if there is none."""

    whole: str = ""
    size: int = 0
    tail: str = ""
    tail_size: int = 0


class Reader(Protocol):
    """Reads one file from front to back; reading backwards costs a restart."""

    def read(self, start: int, stop: int) -> Rows:
        """Rows start..stop of the file."""

    def close(self) -> None: ...
