"""Parquet footers that lie, written by hand: the few bits of Thrift's compact protocol they need.

https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

from collections.abc import Sequence

_MAGIC = b"PAR1"
_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12
_BYTE_ARRAY, _REQUIRED, _UTF8, _PLAIN, _UNCOMPRESSED = 6, 0, 0, 0, 0
Field = tuple[int, int, bytes]  # (id, type, encoded value)


def parquet(rows: int, groups: Sequence[int]) -> bytes:
    """A file with a column ``text`` that claims ``rows`` rows in groups of so many each."""
    schema = [
        _struct((4, _BINARY, _binary(b"schema")), (5, _I32, _number(1))),
        _struct(
            (1, _I32, _number(_BYTE_ARRAY)),
            (3, _I32, _number(_REQUIRED)),
            (4, _BINARY, _binary(b"text")),
            (6, _I32, _number(_UTF8)),
        ),
    ]
    footer = _struct(
        (1, _I32, _number(1)),
        (2, _LIST, _list(_STRUCT, schema)),
        (3, _I64, _number(rows)),
        (4, _LIST, _list(_STRUCT, [_group(number) for number in groups])),
    )
    return _MAGIC + footer + len(footer).to_bytes(4, "little") + _MAGIC


def _group(rows: int) -> bytes:
    chunk = _struct(
        (1, _I32, _number(_BYTE_ARRAY)),
        (2, _LIST, _list(_I32, [_number(_PLAIN)])),
        (3, _LIST, _list(_BINARY, [_binary(b"text")])),
        (4, _I32, _number(_UNCOMPRESSED)),
        (5, _I64, _number(rows)),
        (6, _I64, _number(4)),
        (7, _I64, _number(4)),
        (9, _I64, _number(4)),
    )
    column = _struct((2, _I64, _number(4)), (3, _STRUCT, chunk))
    return _struct(
        (1, _LIST, _list(_STRUCT, [column])), (2, _I64, _number(4)), (3, _I64, _number(rows))
    )


def _struct(*fields: Field) -> bytes:
    content, last = b"", 0
    for number, kind, value in fields:
        content += bytes([(number - last) << 4 | kind]) + value
        last = number
    return content + b"\0"


def _list(kind: int, entries: Sequence[bytes]) -> bytes:
    return bytes([len(entries) << 4 | kind]) + b"".join(entries)


def _binary(content: bytes) -> bytes:
    return _varint(len(content)) + content


def _number(value: int) -> bytes:
    return _varint((value << 1) ^ (value >> 63))


def _varint(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])
