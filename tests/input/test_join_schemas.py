"""Types widen as far as every value stays what it is."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline.input.schema.join import join, wider

_A, _B = pa.struct([("a", pa.int8())]), pa.struct([("b", pa.string()), ("a", pa.float32())])


@pytest.mark.parametrize(
    ("a", "b", "wide"),
    [
        (pa.null(), pa.list_(pa.int8()), pa.list_(pa.int8())),
        (pa.int32(), pa.int64(), pa.int64()),
        (pa.uint8(), pa.uint16(), pa.uint16()),
        (pa.uint32(), pa.int32(), pa.int64()),
        (pa.uint64(), pa.int8(), pa.decimal128(20, 0)),
        (pa.int32(), pa.float32(), pa.float64()),
        (pa.int64(), pa.float64(), pa.float64()),
        (pa.decimal128(5, 2), pa.decimal128(6, 4), pa.decimal128(7, 4)),
        (pa.decimal128(5, 2), pa.int32(), pa.decimal128(12, 2)),
        (pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("ns")),
        (pa.date32(), pa.date64(), pa.date64()),
        (pa.string(), pa.large_string(), pa.large_string()),
        (pa.dictionary(pa.int8(), pa.string()), pa.string(), pa.string()),
        (pa.binary(3), pa.binary(), pa.binary()),
        (pa.list_(pa.int8()), pa.large_list(pa.int16()), pa.large_list(pa.int16())),
        (_A, _B, pa.struct([("a", pa.float32()), ("b", pa.string())])),
        (pa.string(), pa.int8(), None),
        (pa.bool_(), pa.int8(), None),
        (pa.timestamp("us"), pa.timestamp("us", "UTC"), None),
        (pa.decimal128(5, 2), pa.float64(), None),
        (pa.list_(pa.int8()), pa.int8(), None),
    ],
)
def test_a_type_for_both(a: pa.DataType, b: pa.DataType, wide: pa.DataType | None) -> None:
    assert wider(a, b) == wide
    other = wider(b, a)
    assert other == wide or (wide is not None and set(other) == set(wide))


def test_columns_are_joined_by_name_and_what_was_widened_is_said() -> None:
    a = pa.schema([("n", pa.int32()), ("t", pa.string())])
    b = pa.schema([("t", pa.string()), ("n", pa.int64()), ("new", pa.bool_())])

    joined = join([("a", a), ("b", b)])
    assert joined.schema == pa.schema([("n", pa.int64()), ("t", pa.string()), ("new", pa.bool_())])
    assert joined.notes == (
        "n is int32 and int64 in different files: int64",
        "new is null where a file lacks it, as a does",
    )


def test_what_cannot_be_joined_is_named_and_left_out() -> None:
    a = pa.schema([("n", pa.int32()), ("t", pa.string())])
    b = pa.schema([("n", pa.string()), ("t", pa.string())])

    joined = join([("a", a), ("b", b)])
    assert joined.schema.names == ["t"]
    assert [str(c) for c in joined.conflicts] == ["column 'n' is int32 in a, and string in b"]


def test_metadata_are_those_of_the_first_file_that_has_some() -> None:
    a = pa.schema([pa.field("n", pa.int32())])
    b = pa.schema([pa.field("n", pa.int64(), metadata={"unit": "m"})], {"made": "by hand"})

    schema = join([("a", a), ("b", b)]).schema
    assert schema.metadata == {b"made": b"by hand"}
    assert schema.field("n").metadata == {b"unit": b"m"}
