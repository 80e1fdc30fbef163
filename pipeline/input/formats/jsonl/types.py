"""The Arrow type of a column of JSON values, chosen so that it holds all of them exactly. Pure.

Types widen: null to anything, integers to uint64 and decimals, integers and fractions to doubles,
or to decimals if a double would round one of them. A mix of other types becomes text: text as it
is, anything else as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa

from pipeline.job.template.field_text import as_text
from pipeline.rows.large_tables import inner_types

_MOST_FIELDS = 2000  # of a file's lines, and of a column's objects at all depths
_EXACT = 1 << 53  # a double holds every integer up to here
_DIGITS = 38  # of a decimal
_INFINITE = (float("inf"), float("-inf"))
_END = re.compile(r"[\\\w.+-]*\s*")  # text that may begin a word, number or escape
# pyarrow's errors for values that do not fit the type
NO_ARRAY = (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError)


class Raw(float):
    """A number with a fraction or an exponent; its text is that of the file."""

    __slots__ = ("_text",)
    _text: str

    def __new__(cls, text: str) -> Raw:
        made = super().__new__(cls, text)
        if made in _INFINITE and "Inf" not in text:
            raise ValueError(f"{text}, too large a number")
        made._text = text
        return made

    def __str__(self) -> str:
        return self._text

    __repr__ = __str__

    def __reduce__(self) -> tuple[type[Raw], tuple[str]]:
        return Raw, (self._text,)


@dataclass
class _Room:
    """Limits the fields of one column's objects: each becomes a column and needs memory."""

    left: int = _MOST_FIELDS


class Values:
    """The types of a column's values so far; without ``room``, of a file's lines."""

    def __init__(self, room: _Room | None = None) -> None:
        self._room = room
        self.kinds: set[type] = set()
        self.least = self.most = 0  # of the integers
        # the most digits before and after the point of all fractions; see ``count_places``
        self.whole = self.places = 0
        self.inner: Values | None = None  # of the lists
        self.fields: dict[str, Values] = {}  # of the objects
        self.count_places = False
        self.too_odd = False  # the objects: their fields cannot be columns

    def see(self, value: Any) -> None:
        kind = type(value)
        if kind is str or value is None:
            self.kinds.add(kind)
            return
        if kind is Raw:
            kind = float
        self.kinds.add(kind)
        if kind is int:
            if value < self.least:
                self.least = value
            elif value > self.most:
                self.most = value
        elif kind is float:
            if self.count_places:
                whole, places = _digits(value)
                self.whole, self.places = max(self.whole, whole), max(self.places, places)
        elif kind is list:
            if self.inner is None:
                self.inner = self._new()
            for one in value:
                self.inner.see(one)
        elif kind is dict:
            self.see_fields(value)

    def see_fields(self, value: Mapping[str, Any]) -> None:
        if self.too_odd and self._room:
            return  # it is text in any case
        fields = self.fields
        for name, one in value.items():
            if name not in fields and not self._begin(name):
                if self._room:
                    return
                continue
            fields[name].see(one)

    def _begin(self, name: str) -> bool:
        """Add a field that is new, if possible."""
        left = self._room.left if self._room else _MOST_FIELDS - len(self.fields)
        if left <= 0 or not is_whole(name):
            self._give_up()
            return False
        self.fields[name] = self._new()
        if self._room:
            self._room.left -= 1
        return True

    def _give_up(self) -> None:
        """The objects become text; objects of lines cannot: the reader reports that."""
        self.too_odd = True
        if self._room:
            self._room.left += self._fields_inside()
            self.fields.clear()

    def _fields_inside(self) -> int:
        """The number of fields of the objects, at all depths."""
        found = 0
        for one in self.fields.values():
            in_list = one.inner._fields_inside() if one.inner else 0
            found += 1 + one._fields_inside() + in_list
        return found

    def add(self, other: Values) -> None:
        """Add the types of another file's values."""
        self.kinds |= other.kinds
        self.least, self.most = min(self.least, other.least), max(self.most, other.most)
        self.whole, self.places = max(self.whole, other.whole), max(self.places, other.places)
        if other.too_odd:
            self._give_up()
        if other.inner is not None:
            self.inner = self.inner or self._new()
            self.inner.add(other.inner)
        if self.too_odd and self._room:
            return
        for name, seen in other.fields.items():
            if name in self.fields or self._begin(name):
                self.fields[name].add(seen)
            elif self._room:
                return

    def _new(self) -> Values:
        made = Values(self._room or _Room())
        made.count_places = self.count_places
        return made

    @property
    def needs_places(self) -> bool:
        """Whether fractions occur together with integers that a double would round: then the file
        has to be read again, with ``count_places``."""
        rounded = self.most > _EXACT or self.least < -_EXACT
        inner = [*self.fields.values(), *([self.inner] if self.inner else [])]
        return ({int, float} <= self.kinds and rounded) or any(s.needs_places for s in inner)

    def type(self) -> pa.DataType:
        kinds = self.kinds - {type(None)}
        if not kinds:
            return pa.null()
        if kinds == {int, float}:
            rounded = self.most > _EXACT or self.least < -_EXACT
            return self._decimal() if rounded else pa.float64()
        if len(kinds) > 1 or str in kinds:
            return pa.string()
        if int in kinds:
            return self._integer()
        if float in kinds:
            return pa.float64()
        if bool in kinds:
            return pa.bool_()
        if list in kinds:
            return pa.list_(self.inner.type() if self.inner is not None else pa.null())
        if self.too_odd or not self.fields:
            return pa.string()
        return pa.struct([(name, seen.type()) for name, seen in self.fields.items()])

    def _integer(self) -> pa.DataType:
        if self.least >= -(1 << 63) and self.most < 1 << 63:
            return pa.int64()
        if self.least >= 0 and self.most < 1 << 64:
            return pa.uint64()
        return self._decimal()

    def _decimal(self) -> pa.DataType:
        whole = max(self.whole, len(str(max(self.most, -self.least))))
        if whole + self.places > _DIGITS:
            return pa.string()
        return pa.decimal128(_DIGITS, self.places)


def is_whole(text: str) -> bool:
    """False if it contains half a surrogate pair: JSON allows that, UTF-8 does not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _digits(value: float) -> tuple[int, int]:
    """The number of digits before and after the point."""
    number = Decimal(str(value))
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int):  # infinity or NaN
        return 0, _DIGITS + 1
    return max(0, number.adjusted() + 1), max(0, -exponent)


def column(
    values: list[Any], kind: pa.DataType, told: Callable[[], list[Any]] | None = None
) -> pa.Array:
    """``told``: the same values with Raw fractions, if these have none: creating them takes time.
    Raises one of NO_ARRAY for values that do not fit the type."""
    if _holds(kind, values):
        try:
            return pa.array(values, kind)  # it converts fractions neither to text nor to decimals
        except NO_ARRAY:
            pass
    if told is not None and any(map(_holds_fractions, values)):
        values = told()
    return pa.array([shaped(value, kind) for value in values], kind)


def _holds_fractions(value: Any) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return isinstance(value, float)
    return any(map(_holds_fractions, value))


def _holds(kind: pa.DataType, values: Collection[Any]) -> bool:
    """False if pyarrow would silently change a value: it truncates fractions, and converts numbers
    to dates and times."""
    if pa.types.is_list(kind):
        return not _turns(kind) or _holds(
            kind.value_type, [one for v in values if isinstance(v, list) for one in v]
        )
    if pa.types.is_struct(kind):
        given = [value for value in values if isinstance(value, dict)]
        inner = (field for field in kind if _turns(field.type))
        return all(_holds(f.type, [value.get(f.name) for value in given]) for f in inner)
    there = {float if one is Raw else one for one in set(map(type, values))}
    if pa.types.is_temporal(kind):
        return not there & {int, float}
    if pa.types.is_integer(kind):
        return float not in there
    return bool not in there or not pa.types.is_floating(kind)


def _turns(kind: pa.DataType) -> bool:
    """Whether such a check applies to the type inside lists and objects."""
    return any(map(pa.types.is_integer, (kind, *inner_types(kind))))


def shaped(value: Any, kind: pa.DataType) -> Any:
    """``value`` as pyarrow needs it for a column of the type: converted to text or decimals where
    required. Raises one of NO_ARRAY if the type would change it."""
    if value is None:
        return None
    if pa.types.is_string(kind):
        return as_text(value)
    if pa.types.is_decimal(kind) and isinstance(value, float):
        return Decimal(str(value))
    if isinstance(value, str) and not pa.types.is_nested(kind):
        made = pa.scalar(value).cast(kind).as_py()
        hexadecimal = isinstance(made, int) and "x" in value.lower()
        if hexadecimal or (made in _INFINITE and any(map(str.isdigit, value))):
            raise pa.ArrowInvalid(f"{value!r} is no exact {kind}")
        return made
    if pa.types.is_integer(kind) and isinstance(value, float) and value.is_integer():
        exact = Decimal(str(value))
        if exact == int(exact):
            return int(exact)
    if pa.types.is_list(kind) and isinstance(value, list):
        return [shaped(one, kind.value_type) for one in value]
    if pa.types.is_struct(kind) and isinstance(value, dict):
        return {f.name: shaped(value.get(f.name), f.type) for f in kind}
    if not _holds(kind, [value]):
        raise pa.ArrowInvalid(f"{value!r} is not a {kind}")
    return value


def filled(value: Any, kind: pa.DataType) -> Any:
    """``value`` with all fields of the type's objects: missing ones are null."""
    if isinstance(value, dict) and pa.types.is_struct(kind):
        return {f.name: filled(value.get(f.name), f.type) for f in kind}
    if isinstance(value, list) and pa.types.is_list(kind):
        return [filled(one, kind.value_type) for one in value]
    return value


def has_fractions(kind: pa.DataType) -> bool:
    """Whether values of the type may be written in more than one way: 2.5, 2.50, 25e-1."""
    kinds = (kind, *inner_types(kind))
    return any(pa.types.is_floating(one) or pa.types.is_decimal(one) for one in kinds)


def is_begun(text: bytes) -> bool:
    """Whether all of it is the beginning of a JSON value, including NaN and Infinity."""
    try:
        json.loads(text.decode(errors="replace"))
    except json.JSONDecodeError as e:
        in_text = e.msg.startswith("Unterminated")
        return in_text or (e.msg != "Extra data" and bool(_END.fullmatch(e.doc, e.pos)))
    except (ValueError, RecursionError):
        pass
    return False
