"""Generated tables: of any schema that pyarrow can write, with values that others got wrong."""

from __future__ import annotations

import datetime as dt
import math
import string
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

MOST_ROWS = 40
_NAMES = st.text(string.ascii_letters + string.digits + "_ äß.", min_size=1, max_size=8).map(
    lambda name: f"c {name}"  # no name of ours, none that is only spaces
)
_TEXTS = st.one_of(
    st.sampled_from(
        ["", " ", "01067", "1e5", "-0", "0.10", "null", "NaN", "true", "a\r\nb", 'say "hi"', "a,b"]
    ),
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12),
)
_DAYS = st.dates(dt.date(1900, 1, 1), dt.date(2200, 1, 1))
_MOMENTS = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1))
_FLOATS = st.floats(allow_nan=False)


def _ints(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.one_of(st.integers(low, high), st.sampled_from([0, low, high]))


def _whole(digits: int) -> st.SearchStrategy[int]:
    return st.integers(-(10**digits), 10**digits)


def _moment(unit: str) -> st.SearchStrategy[Any]:
    if unit == "s":
        return _MOMENTS.map(lambda moment: moment.replace(microsecond=0))
    if unit == "ms":
        return _MOMENTS.map(lambda m: m.replace(microsecond=m.microsecond // 1000 * 1000))
    return _MOMENTS


_PLAIN: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    *((getattr(pa, f"int{bits}")(), _ints(bits, signed=True)) for bits in (8, 16, 32, 64)),
    *((getattr(pa, f"uint{bits}")(), _ints(bits, signed=False)) for bits in (8, 16, 32, 64)),
    (pa.float64(), _FLOATS),
    (pa.float32(), st.floats(width=32, allow_nan=False)),
    (pa.bool_(), st.booleans()),
    (pa.string(), _TEXTS),
    (pa.large_string(), _TEXTS),
    (pa.string_view(), _TEXTS),
    (pa.binary(), st.binary(max_size=8)),
    (pa.large_binary(), st.binary(max_size=8)),
    (pa.binary(4), st.binary(min_size=4, max_size=4)),
    (pa.date32(), _DAYS),
    *((pa.timestamp(unit), _moment(unit)) for unit in ("s", "ms", "us", "ns")),
    (pa.timestamp("us", "UTC"), _MOMENTS.map(lambda m: m.replace(tzinfo=dt.timezone.utc))),  # noqa: UP017
    (pa.time64("us"), st.times()),
    (pa.duration("us"), _whole(15).map(lambda n: dt.timedelta(microseconds=n))),
    (pa.decimal128(12, 3), _whole(11).map(lambda n: Decimal(n).scaleb(-3))),
    (pa.decimal256(50, 2), _whole(26).map(lambda n: Decimal(n).scaleb(-2))),
    (pa.dictionary(pa.int8(), pa.string()), st.sampled_from(["red", "green", "01"])),
    (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["red", "green", ""])),
    (pa.null(), st.none()),
]


def _nested(
    inner: st.SearchStrategy[tuple[pa.DataType, st.SearchStrategy[Any]]],
) -> st.SearchStrategy[tuple[pa.DataType, st.SearchStrategy[Any]]]:
    def of(made: tuple[str, list[tuple[pa.DataType, st.SearchStrategy[Any]]]]) -> Any:
        kind, parts = made
        (one, values), *_ = parts
        values = st.none() | values
        if kind == "list":
            return pa.list_(one), st.lists(values, max_size=3)
        if kind == "large_list":
            return pa.large_list(one), st.lists(values, max_size=3)
        if kind == "map":
            return pa.map_(pa.string(), one), st.dictionaries(_TEXTS, values, max_size=2).map(
                lambda made: list(made.items())
            )
        fields = {f"f{n}": part for n, part in enumerate(parts)}
        struct = pa.struct([(name, part[0]) for name, part in fields.items()])
        return struct, st.fixed_dictionaries({n: st.none() | p[1] for n, p in fields.items()})

    return st.tuples(
        st.sampled_from(["list", "large_list", "map", "struct"]),
        st.lists(inner, min_size=1, max_size=3),
    ).map(of)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """A column ``text``, which is the prompt, and up to five others of any type, nulls in them."""
    rows = draw(st.integers(1, MOST_ROWS))
    names = draw(st.lists(_NAMES, max_size=5, unique_by=str.lower))
    plain = st.sampled_from(_PLAIN)
    kinds = st.recursive(plain, _nested, max_leaves=4)
    columns: dict[str, pa.Array] = {"text": pa.array([f"row {n}" for n in range(rows)])}
    for name in names:
        kind, values = draw(kinds)
        some = st.none() | values
        # few different values, repeated: drawing each of them takes long
        few = draw(st.lists(some, min_size=1, max_size=6))
        columns[name] = pa.array([few[n % len(few)] for n in range(rows)], kind)
    return pa.table(columns)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.sampled_from([2**53 + 1, 2**64 - 1, 1.5, 0.1])
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def records(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Lines of JSON: fields of any kinds, kinds and fields that come late."""
    rows = draw(st.integers(1, MOST_ROWS))
    names = draw(st.lists(_NAMES, max_size=4, unique_by=str.lower))
    few = [
        draw(st.dictionaries(st.sampled_from(names), JSON_VALUES)) if names else {}
        for _ in range(draw(st.integers(1, 5)))
    ]
    late = draw(st.integers(0, rows))
    return [
        {"text": f"row {n}"} | (few[n % len(few)] if n >= late else few[0]) for n in range(rows)
    ]


@st.composite
def cells(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    """The header and the cells of a CSV file, as text."""
    rows = draw(st.integers(1, MOST_ROWS))
    names = draw(st.lists(_NAMES, max_size=4, unique_by=str.lower))
    numbers = st.integers(-(10**20), 10**20).map(str) | _FLOATS.map(repr)
    kinds = [draw(st.sampled_from([_TEXTS, numbers, st.just("") | numbers])) for _ in names]
    few = [[draw(kind) for kind in kinds] for _ in range(draw(st.integers(1, 6)))]
    return ["text", *names], [[f"row {n}", *few[n % len(few)]] for n in range(rows)]


def same(one: object, other: object) -> bool:
    """Equal, where what is no number equals itself and types have to be alike."""
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return type(one) is type(other) and one == other
