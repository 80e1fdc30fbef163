"""Columns given by folder names, as Hive writes them: ``lang=de/year=2024/``. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote

import pyarrow as pa

from pipeline.errors import UsageError

_NULL = "__HIVE_DEFAULT_PARTITION__"
_WILD = "*?["


def partition_of(path: str, pattern: str | None) -> dict[str, str | None]:
    """Names and values in the folders of ``path`` below the fixed part of ``pattern``; None: all
    folders. Raises UsageError for one that is not valid text."""
    folders = path.split("/")[:-1]
    if pattern is not None:
        folders = folders[len(fixed_part(pattern)) :]
    found: dict[str, str | None] = {}
    for folder in folders:
        name, equals, value = folder.partition("=")
        if equals and name:
            key = _unquoted(path, name)
            found[key] = None if value == _NULL else _unquoted(path, value)
    return found


def _unquoted(path: str, quoted: str) -> str:
    text = unquote(quoted, errors="surrogateescape")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{path}: a folder's name gives a column, and {text!r} in it is not UTF-8",
            "rename the folder, or do without such columns: input: {partitioning: none}",
        ) from None
    return text


def fixed_part(pattern: str) -> list[str]:
    """The folders, and the file name, of ``pattern`` before the first with a wildcard."""
    fixed = pattern.rstrip("/").split("/")
    while fixed and any(c in part for part in fixed for c in _WILD):
        fixed.pop()
    return fixed


def partition_fields(partitions: Iterable[Mapping[str, str | None]]) -> list[pa.Field]:
    """A column is integer if all its values are written as integers, otherwise text."""
    values: dict[str, list[str]] = {}
    for one in partitions:
        for name, value in one.items():
            values.setdefault(name, []).extend([] if value is None else [value])
    return [
        pa.field(name, pa.int64() if of and all(map(_is_integer, of)) else pa.string())
        for name, of in values.items()
    ]


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and text == str(int(text)) and len(text) < 19


def with_partition(
    table: pa.Table, partition: Sequence[tuple[str, str | None]], schema: pa.Schema
) -> pa.Table:
    """The table with the partition's values in its columns, which were null before."""
    for name, value in partition:
        place = schema.get_field_index(name)
        if place < 0:
            continue
        field = schema.field(place)
        one = pa.scalar(value if value is None or pa.types.is_string(field.type) else int(value))
        column = pa.repeat(one.cast(field.type), table.num_rows)
        table = table.set_column(place, field, column)
    return table
