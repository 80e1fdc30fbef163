"""One schema for files with different schemas: types widen as long as every value stays the same.

Columns are matched by name, in any order; a column missing in a file is null there. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

_UNITS = ("s", "ms", "us", "ns")
_INTEGERS = (
    (pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
)
_FLOATS = (pa.float16(), pa.float32(), pa.float64())
_EXACT = {
    8: pa.float16(),
    16: pa.float32(),
    32: pa.float64(),
    64: pa.float64(),
}  # bits -> holds all


@dataclass(frozen=True)
class Conflict:
    """Two files whose types of a column cannot be joined."""

    column: str
    first: tuple[str, pa.DataType]
    other: tuple[str, pa.DataType]

    def __str__(self) -> str:
        (one, its), (other, theirs) = self.first, self.other
        return f"column {self.column!r} is {its} in {one}, and {theirs} in {other}"


@dataclass(frozen=True)
class CommonSchema:
    """``schema``: without the columns of ``conflicts``; ``notes``: what was widened, one line per
    column."""

    schema: pa.Schema
    conflicts: tuple[Conflict, ...] = ()
    notes: tuple[str, ...] = ()


def join(schemas: Sequence[tuple[str, pa.Schema]]) -> CommonSchema:
    """``schemas``: each with the name of its file; at least one. Metadata: those of the first file
    that has any."""
    first = schemas[0][1]
    if all(schema.equals(first, check_metadata=True) for _, schema in schemas):
        return CommonSchema(first)
    names = list(dict.fromkeys(name for _, schema in schemas for name in schema.names))
    fields: list[pa.Field] = []
    conflicts: list[Conflict] = []
    notes: list[str] = []
    for name in names:
        having = [(path, schema.field(name)) for path, schema in schemas if name in schema.names]
        kind = having[0][1].type
        for path, field in having[1:]:
            wide = wider(kind, field.type)
            if wide is None:
                conflicts.append(Conflict(name, (having[0][0], kind), (path, field.type)))
                break
            kind = wide
        else:
            metadata = next((f.metadata for _, f in having if f.metadata), None)
            fields.append(pa.field(name, kind, metadata=metadata))
            kinds = list(dict.fromkeys(str(f.type) for _, f in having))
            if len(kinds) > 1:
                notes.append(f"{name} is {' and '.join(kinds)} in different files: {kind}")
            if len(having) < len(schemas):
                lacking = next(path for path, schema in schemas if name not in schema.names)
                notes.append(f"{name} is null where a file lacks it, as {lacking} does")
    metadata = next((s.metadata for _, s in schemas if s.metadata), None)
    return CommonSchema(pa.schema(fields, metadata), tuple(conflicts), tuple(notes))


def wider(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """A type that holds the values of both exactly; None if there is none. Fractions also hold
    integers; those beyond 2^53 are detected when they are read."""
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    if pa.types.is_dictionary(a) or pa.types.is_dictionary(b):
        return wider(_plain(a), _plain(b))
    for find in (_text, _number, _time, _nested):
        if (wide := find(a, b)) is not None:
            return wide
    return None


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _text(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    if all(map(_is_text, (a, b))):
        return pa.large_string() if pa.large_string() in (a, b) else pa.string()
    if all(map(_is_binary, (a, b))):
        return pa.large_binary() if pa.large_binary() in (a, b) else pa.binary()
    return None


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _is_binary(kind: pa.DataType) -> bool:
    views = (pa.binary(), pa.large_binary(), pa.binary_view())
    return kind in views or pa.types.is_fixed_size_binary(kind)


def _number(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    whole = [pa.types.is_integer(kind) for kind in (a, b)]
    if all(whole):
        return _integer(a, b)
    if any(map(pa.types.is_decimal, (a, b))):
        return _decimal(a, b)
    if not all(w or pa.types.is_floating(kind) for w, kind in zip(whole, (a, b), strict=True)):
        return None
    floats = [_EXACT[kind.bit_width] if w else kind for w, kind in zip(whole, (a, b), strict=True)]
    return max(floats, key=_FLOATS.index)


def _integer(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    signed, unsigned = _INTEGERS
    for kinds in _INTEGERS:
        if a in kinds and b in kinds:
            return max(a, b, key=kinds.index)
    needed = max(k.bit_width * (2 if k in unsigned else 1) for k in (a, b))
    return next((k for k in signed if k.bit_width >= needed), pa.decimal128(20, 0))


def _decimal(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    whole, places = 0, 0
    for kind in (a, b):
        if pa.types.is_integer(kind):
            whole = max(whole, len(str(2**kind.bit_width)))
        elif pa.types.is_decimal(kind):
            whole, places = max(whole, kind.precision - kind.scale), max(places, kind.scale)
        else:
            return None
    digits = whole + places
    return pa.decimal128(digits, places) if digits <= 38 else pa.decimal256(digits, places)


def _time(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    if pa.types.is_timestamp(a) and pa.types.is_timestamp(b) and a.tz == b.tz:
        return pa.timestamp(_finer(a, b), a.tz)
    if pa.types.is_duration(a) and pa.types.is_duration(b):
        return pa.duration(_finer(a, b))
    if pa.types.is_date(a) and pa.types.is_date(b):
        return pa.date64()
    if pa.types.is_time(a) and pa.types.is_time(b):
        unit = _finer(a, b)
        return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
    return None


def _finer(a: pa.DataType, b: pa.DataType) -> str:
    return str(max(a.unit, b.unit, key=_UNITS.index))


def _nested(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    if all(map(_is_list, (a, b))):
        inner = wider(a.value_type, b.value_type)
        large = any(map(pa.types.is_large_list, (a, b)))
        return None if inner is None else pa.large_list(inner) if large else pa.list_(inner)
    if pa.types.is_map(a) and pa.types.is_map(b):
        key, item = wider(a.key_type, b.key_type), wider(a.item_type, b.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    if not (pa.types.is_struct(a) and pa.types.is_struct(b)):
        return None
    fields = {field.name: field.type for field in a}
    for field in b:
        kind = wider(fields.get(field.name, pa.null()), field.type)
        if kind is None:
            return None
        fields[field.name] = kind
    return pa.struct(list(fields.items()))


def _is_list(kind: pa.DataType) -> bool:
    fixed = pa.types.is_fixed_size_list(kind)
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or fixed)
