"""JSON Lines, row by row as they are meant."""

from __future__ import annotations

import json
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import UsageError
from pipeline.input.formats.jsonl.kind import JsonlReader
from pipeline.input.reader import UnitReader
from pipeline.input.shards import discover
from pipeline.input.units import Unit
from pipeline.job.job import Input
from pipeline.job.template.field_text import as_text
from tests.input.reading import open_file, read_all
from tests.support.samples import json_lines, lines


def test_a_malformed_line_is_an_invalid_row_and_the_others_are_fine(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", ['{"text": "a"}', '{"text": ', '{"text": "c"}'])

    read = read_all(path)
    assert read.table.to_pylist() == [{"text": "a"}, {"text": None}, {"text": "c"}]
    assert read.invalid == {1: "the line is not a JSON object"}


@pytest.mark.parametrize("line", ["[1]", "3", '"text"', "null", "nonsense", "[" * 100_000])
def test_a_line_that_is_no_object_is_an_invalid_row(tmp_path: Path, line: str) -> None:
    path = lines(tmp_path / "a.jsonl", ['{"text": "a"}', line])

    assert set(read_all(path).invalid) == {1}


def test_positions_of_invalid_rows_count_from_the_units_start(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", ['{"text": "a"}', "", '{"text": "b"}', "x"])
    _, reader = open_file(path)

    assert set(reader.read(Unit("u", 0, 1, 3)).invalid) == {1}
    reader.close()


@pytest.mark.parametrize(
    ("values", "kind", "held"),
    [
        ([1, None, -2], pa.int64(), None),
        ([None, None], pa.string(), None),
        ([1, 2**64 - 1], pa.uint64(), None),
        ([1, 2**64], pa.decimal128(38, 0), None),
        ([-1, 2**63], pa.decimal128(38, 0), None),
        ([10**40], pa.string(), [str(10**40)]),
        ([1, 2.5, None], pa.float64(), None),
        ([2**53 + 1, 1.5], pa.decimal128(38, 1), None),
        ([1.5, 2**53 + 1, 1e-30], pa.string(), ["1.5", "9007199254740993", "1e-30"]),
        ([True, False], pa.bool_(), None),
        ([True, 1], pa.string(), ["true", "1"]),
        (["a", 5, "c"], pa.string(), ["a", "5", "c"]),
        (["a", "b", ["c"]], pa.string(), ["a", "b", '["c"]']),
        ([1, 2, "n/a"], pa.string(), ["1", "2", "n/a"]),
        ([{"k": 1}, [1, 2], 7, "s"], pa.string(), ['{"k": 1}', "[1, 2]", "7", "s"]),
        ([{}, {}], pa.string(), ["{}", "{}"]),
        ([{}, []], pa.string(), ["{}", "[]"]),
        ([[1], [2.5]], pa.list_(pa.float64()), None),
        ([[1], ["a"]], pa.list_(pa.string()), [["1"], ["a"]]),
        ([{"a": 1}, {"a": 2.5}], pa.struct([("a", pa.float64())]), None),
        ([{"a": 1}, {"a": "n/a"}], pa.struct([("a", pa.string())]), [{"a": "1"}, {"a": "n/a"}]),
    ],
)
def test_a_column_has_a_type_that_holds_every_value(
    tmp_path: Path, values: list[object], kind: pa.DataType, held: list[object] | None
) -> None:
    path = json_lines(tmp_path / "a.jsonl", [{"v": value} for value in values])

    read = read_all(path)
    column = read.table.column("v")
    assert (column.type, column.to_pylist()) == (kind, values if held is None else held)
    assert read.invalid == {}


@pytest.mark.parametrize("late", [0.5, 2**64 - 1, "x", {"a": 1}, [1], True])
def test_a_value_that_comes_late_decides_too(tmp_path: Path, late: object) -> None:
    rows = [*({"v": 1, "pad": "x" * 500} for _ in range(4000)), {"v": late}]

    last = read_all(json_lines(tmp_path / "a.jsonl", rows)).table.column("v")[-1].as_py()
    assert last == (late if isinstance(late, float | int) and late is not True else as_text(late))


def test_a_field_that_comes_late_is_a_column(tmp_path: Path) -> None:
    rows = [*({"pad": "x" * 500} for _ in range(4000)), {"new": {"a": [1]}}]

    assert read_all(json_lines(tmp_path / "a.jsonl", rows)).table["new"][-1].as_py() == {"a": [1]}


@pytest.mark.parametrize("number", ["1", "1.0", "2.50", "1e5", "-0.0", "9007199254740993"])
def test_prompts_write_a_number_as_the_file_does(tmp_path: Path, number: str) -> None:
    """Whatever else is in the column, and inside of lists and objects."""
    path = lines(
        tmp_path / "a.jsonl",
        [f'{{"v": {number}, "o": {{"a": {number}}}}}', '{"v": 0.5, "o": {"a": 0.5, "b": 1}}'],
    )

    rows, _ = read_all(path).plain(["v", "o"]).read(0, 2)
    assert as_text(rows[0]["v"]) == as_text(rows[0]["o"]["a"]) == number
    assert rows[0]["o"]["b"] is None


@pytest.mark.parametrize(
    ("values", "held"),
    [
        (["1.10", '"1.2.3"'], ["1.10", "1.2.3"]),
        (["12345678901234567890.5", '"x"', "1e5"], ["12345678901234567890.5", "x", "1e5"]),
        (['{"b": 2.50}', "[1.10, [true]]"], ['{"b": 2.50}', "[1.10, [true]]"]),
        (['{"b": 2.50}', '{"b": "x"}'], [{"b": "2.50"}, {"b": "x"}]),
        (["[2.50]", '["x"]'], [["2.50"], ["x"]]),
        (["9007199254740993", "0.123456789012345678901234"], None),
        (
            ["9007199254740993", "0.12345678901234567891"],
            [Decimal(9007199254740993), Decimal("0.12345678901234567891")],
        ),
        (["9007199254740993", "1e30"], [Decimal(9007199254740993), Decimal(10**30)]),
    ],
)
def test_a_number_that_becomes_text_or_a_decimal_keeps_its_digits(
    tmp_path: Path, values: list[str], held: list[object] | None
) -> None:
    path = lines(tmp_path / "a.jsonl", [f'{{"v": {value}}}' for value in values])

    read = read_all(path)
    assert read.table["v"].to_pylist() == (values if held is None else held)
    assert read.invalid == {}


@pytest.mark.parametrize(
    ("kind", "number", "held"),
    [
        ("string", "2.50", "2.50"),
        ("int64", "9007199254740993.0", 9007199254740993),
        ("int64", "9007199254740992.5", None),
    ],
)
def test_a_number_that_is_cast_is_what_stands_there(
    tmp_path: Path, kind: Any, number: str, held: object
) -> None:
    path = lines(tmp_path / "a.jsonl", [f'{{"v": {number}}}'])
    files = discover(Input(path=path, cast={"v": kind}))

    with closing(UnitReader(files.shards, files.schema)) as reader:
        assert reader.read(Unit("u", 0, 0, 1)).table["v"].to_pylist() == [held]


def test_maps_of_maps_do_not_become_columns_without_end(tmp_path: Path) -> None:
    """Each key of a line's map, and of the maps in it, is in no other line."""
    rows = [
        {"m": {f"u{i}": {f"{i} {k}": 1.5 for k in range(100)}}, "o": {"a": {"b": i}}}
        for i in range(200)
    ]

    read = read_all(json_lines(tmp_path / "a.jsonl", rows))
    other = pa.struct([("a", pa.struct([("b", pa.int64())]))])
    assert read.table.schema.types == [pa.string(), other]
    assert [json.loads(text) for text in read.table["m"].to_pylist()] == [row["m"] for row in rows]


def test_a_number_too_large_for_any_type_is_an_invalid_row(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", ['{"n": 1.5}', '{"n": 1e400}'])

    assert read_all(path).invalid == {1: "the line holds 1e400, too large a number"}


@pytest.mark.parametrize(
    ("kind", "told", "other"),
    [
        (pa.int64(), 1, 1.5),
        (pa.uint64(), 1, 1.5),
        (pa.float64(), 1, True),
        (pa.date32(), "2024-01-31", 7),
        (pa.timestamp("us"), "2024-01-31 10:00:00", 7.5),
        (pa.list_(pa.int64()), [1], [1.5]),
        (pa.struct([("a", pa.int64())]), {"a": 1}, {"a": 1.5}),
        (pa.list_(pa.struct([("a", pa.int64())])), [{"a": 1}], [{"a": 1}, {"a": 2.5}]),
    ],
)
def test_a_value_that_a_columns_type_would_change_is_an_invalid_row(
    tmp_path: Path, kind: pa.DataType, told: object, other: object
) -> None:
    """As where the job casts it, or the file is another one by now."""
    path = json_lines(tmp_path / "a.jsonl", [{"v": told}, {"v": other}])

    with closing(JsonlReader(path, pa.schema([("v", kind)]), (0,))) as reader:
        read = reader.read(0, 2)
    assert read.invalid == {1: f"field 'v' is not a {kind}"}
    assert [value is None for value in read.table.column("v").to_pylist()] == [False, True]


def test_a_whole_number_with_a_point_may_be_cast_to_an_integer(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "a.jsonl", [{"v": 2.0}, {"v": "3"}, {"v": None}])

    with closing(JsonlReader(path, pa.schema([("v", pa.int64())]), (0,))) as reader:
        read = reader.read(0, 3)
    assert (read.table.column("v").to_pylist(), read.invalid) == ([2, 3, None], {})


def test_fractions_beside_one_that_is_no_number_are_still_numbers(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", ['{"a": NaN, "b": 1.5}', '{"a": 1, "b": 2.5}'])

    assert read_all(path).table.column("b").to_pylist() == [1.5, 2.5]


def test_half_a_surrogate_pair_is_an_invalid_row(tmp_path: Path) -> None:
    """Cut-off tweets end in one: JSON can say it, UTF-8 cannot."""
    path = lines(tmp_path / "a.jsonl", ['{"text": "a"}', '{"text": "b \\ud83d"}'])

    assert set(read_all(path).invalid) == {1}


def test_a_field_that_a_line_lacks_is_null(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "a.jsonl", [{"a": 1}, {"b": "x"}])

    read = read_all(path)
    assert read.table.to_pylist() == [{"a": 1, "b": None}, {"a": None, "b": "x"}]
    assert read.invalid == {}


def test_a_last_line_without_its_end_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 2}', encoding="utf-8")

    assert read_all(tmp_path / "a.jsonl").table.column("a").to_pylist() == [1, 2]


def test_a_file_without_any_object_is_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", ["not", "json"])

    with pytest.raises(UsageError, match="no line of it is a JSON object"):
        discover(Input(path=path))


def test_minus_zero_keeps_its_sign(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"n": 1}\n{"n": -0}\n{"n":[-0]}\n{"n": "x-0"}\n')
    (tmp_path / "b.jsonl").write_text('{"n": 1}\n{"n": -0}\n')

    rows = read_all(tmp_path / "b.jsonl")
    assert [str(value) for value in rows.told("n")] == ["1", "-0"]
    assert rows.table["n"].to_pylist() == [1, 0]
    assert read_all(tmp_path / "a.jsonl").table["n"].to_pylist() == ["1", "-0", "[-0]", "x-0"]
