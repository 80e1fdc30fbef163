"""The header of a GGUF file: its metadata and the places of its tensors, read with plain reads.

The gguf package's reader takes 10 s and 0.8 GB for a vocabulary of 262 144 tokens, and maps the
file, so every converted byte stays in resident memory. Only its constants are used here.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (little-endian, versions 2, 3).
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import (
    GGML_QUANT_SIZES,
    GGUF_DEFAULT_ALIGNMENT,
    GGMLQuantizationType,
    GGUFValueType,
)

from pipeline.errors import UsageError

_MAGIC = b"GGUF"
_SCALARS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
    GGUFValueType.BOOL: "?",
}
_MOST = 1 << 24  # entries of a list, tensors, dimensions: a larger count is corrupt
_MOST_DEPTH = 4  # of nested lists: real files do not even have two levels


@dataclass(frozen=True)
class ByteSpan:
    """One tensor: ``shape`` with the longest stride first (rows, columns); ``offset`` (from the
    start of the file) and ``size`` in bytes.
    """

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int
    size: int


@dataclass(frozen=True)
class Header:
    """``fields``: metadata, lists of numbers as numpy arrays. ``data``: where tensors begin."""

    fields: dict[str, Any]
    tensors: list[ByteSpan]
    data: int


class _Cut(Exception):
    """The file ends inside its header, or a count in it is impossible."""


class _Cursor:
    def __init__(self, bytes_: mmap.mmap) -> None:
        self._bytes = bytes_
        self.at = 0

    def take(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self._bytes):
            raise _Cut("it ends in the middle of its head")
        self.at += size
        return self._bytes[self.at - size : self.at]

    def number(self, code: str) -> Any:
        [value] = struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))
        return value

    def count(self) -> int:
        value = int(self.number("Q"))
        if value > _MOST:
            raise _Cut(f"it claims a list of {value} entries")
        return value

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == GGUFValueType.STRING:
            return self.text()
        if kind == GGUFValueType.ARRAY:
            if depth == _MOST_DEPTH:
                raise _Cut(f"it has lists nested deeper than {_MOST_DEPTH}")
            return self._list(self.number("I"), depth + 1)
        if kind not in _SCALARS:
            raise _Cut(f"a field has the unknown type {kind}")
        return self.number(_SCALARS[GGUFValueType(kind)])

    def _list(self, kind: int, depth: int) -> Any:
        length = self.count()
        if kind in _SCALARS:
            entry = np.dtype(f"<{_SCALARS[GGUFValueType(kind)]}")
            return np.frombuffer(self.take(length * entry.itemsize), entry)
        return [self.value(kind, depth) for _ in range(length)]


def read_header(path: Path) -> Header:
    """Raises UsageError when the file is missing, not GGUF, or cut off in or after its header."""
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is not a file", "give a .gguf file")
        size = path.stat().st_size
        with path.open("rb") as file:
            if file.read(4) != _MAGIC:
                raise _Cut("it does not begin with the letters GGUF")
            # mapped only while the header is read
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                return _parse(_Cursor(mapped), size)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as e:
        raise UsageError(f"{path} cannot be read: {e.strerror or e}") from None
    except UnicodeDecodeError:
        raise _unreadable(path, "a name in it is not UTF-8") from None
    except _Cut as e:
        raise _unreadable(path, str(e)) from None


def _unreadable(path: Path, why: str) -> UsageError:
    return UsageError(
        f"{path} is not a readable GGUF file: {why}",
        "download it again and compare its size and SHA-256 with those published",
    )


def _parse(cursor: _Cursor, size: int) -> Header:
    cursor.take(len(_MAGIC))
    version = cursor.number("I")
    if version not in (2, 3):
        raise _Cut(f"version {version} of the format (or another byte order) is not supported")
    n_tensors, n_fields = cursor.count(), cursor.count()
    fields: dict[str, Any] = {}
    for _ in range(n_fields):
        name = cursor.text()
        fields[name] = cursor.value(cursor.number("I"))
    listed = [_tensor(cursor) for _ in range(n_tensors)]
    if len({name for name, *_ in listed}) < len(listed):
        raise _Cut("it holds two tensors of the same name")
    alignment = fields.get("general.alignment", GGUF_DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0:
        raise _Cut(f"its alignment is {alignment}")
    data = -(-cursor.at // alignment) * alignment
    tensors = [
        ByteSpan(name, shape, kind, data + offset, _bytes_of(name, shape, kind))
        for name, shape, kind, offset in listed
    ]
    end = max((t.offset + t.size for t in tensors), default=data)
    if end > size:
        raise _Cut(f"its tensors need {end:,} bytes and it has {size:,}: it was cut off")
    return Header(fields, tensors, data)


def _tensor(cursor: _Cursor) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
    name = cursor.text()
    dimensions = cursor.number("I")
    if not 0 < dimensions <= 4:
        raise _Cut(f"tensor {name!r} has {dimensions} dimensions")
    shape = tuple(cursor.number("Q") for _ in range(dimensions))[::-1]
    number = cursor.number("I")
    try:
        kind = GGMLQuantizationType(number)
    except ValueError:
        raise _Cut(f"tensor {name!r} has the unknown type {number}") from None
    return name, shape, kind, int(cursor.number("Q"))


def _bytes_of(name: str, shape: tuple[int, ...], kind: GGMLQuantizationType) -> int:
    block, block_bytes = GGML_QUANT_SIZES.get(kind, (0, 0))
    if not block:
        raise _Cut(f"tensor {name!r} has the type {kind.name}, which no file has any more")
    if shape[-1] % block:
        raise _Cut(f"the rows of tensor {name!r} are no whole blocks of {kind.name}")
    return prod(shape) // int(block) * int(block_bytes)
