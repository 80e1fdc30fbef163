"""Rows of a file, read a second time by other parsers than the run's, and compared."""

from __future__ import annotations

import io
import lzma
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import pyarrow as pa

from pipeline.input.cast_check import says_cast
from pipeline.input.formats.base import open_raw
from pipeline.input.formats.unpack import UNPACK, encoding_in
from pipeline.input.plain import plain_rows
from pipeline.input.shard import Shard

_PACKED = ("gzip", "bz2", "zstd", "xz")


class SecondRows(Protocol):
    """One file, read from front to back. ``cast``: columns that ``input.cast`` converts."""

    cast: frozenset[str]

    def skip(self, rows: int) -> None: ...

    def differs(self, ours: pa.Table, names: Sequence[tuple[str, str]]) -> tuple[int, str] | None:
        """The first of the next rows, and its column, that differs from the file. ``names``: (in
        the file, in the output)."""


class RowByRow(ABC):
    """Files that are read row by row."""

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
                        continue  # the row became an error, without it
                    return row, new
        return None

    @abstractmethod
    def _alike(self, value: Any, told: Any, name: str) -> bool:
        """Whether an output value equals that of the row ``told`` under the name."""

    @abstractmethod
    def _says(self, told: Any, name: str) -> Any:
        """The value of the row ``told`` under the name; None if there is none."""


_END = object()


def _refused(ours: pa.Table) -> list[bool]:
    if "error" not in ours.column_names:
        return [False] * ours.num_rows
    errors = ours.column("error").to_pylist()
    return [error is not None and error.get("type") == "InvalidRow" for error in errors]


@contextmanager
def text_of(shard: Shard) -> Iterator[Any]:
    """A file's text in UTF-8; compressed ones are read by other libraries than the run's where
    there are any."""
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
    """A compressed file, unpacked by pyarrow; if pyarrow fails on bytes after the end, such as a
    tape's padding zeros, by Python's readers."""

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
            if e.errno is not None or self._packing not in ("gzip", "bz2"):
                raise
            self._given_up = self._file  # closing it would close the file below
            self._packed.seek(0)
            self._file = UNPACK[self._packing](self._packed)
            self._file.seek(self._at)
            found = self._file.read(len(buffer))
        self._at += len(found)
        buffer[: len(found)] = found
        return len(found)


class _InUtf8:
    """The bytes of a file as if it were in UTF-8. Only LF ends a line: the codecs' own readers also
    end lines at characters that are text in JSON and CSV."""

    def __init__(self, file: Any, encoding: str) -> None:
        self._text = io.TextIOWrapper(file, encoding, newline="\n")

    def __iter__(self) -> Iterator[bytes]:
        return map(_utf8, self._text)

    def read(self, size: int = -1) -> bytes:
        """``size`` in characters."""
        return _utf8(self._text.read(size))


def _utf8(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
