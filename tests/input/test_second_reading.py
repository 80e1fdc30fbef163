"""The input read by other parsers: as the run's readers, and it finds any fault of theirs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.input.reader import UnitReader
from pipeline.input.second_reading import SecondReading
from pipeline.input.shards import InputFiles, discover
from pipeline.input.units import Unit
from pipeline.job.job import Input
from tests.support.samples import quick

Fault = Callable[[pa.Table], pa.Table]

_text = st.text(st.characters(codec="utf-8"), max_size=8)
_cell = _text | st.sampled_from(
    ["", "NaN", "-Infinity", "01", "1.0", "2.50", "1e5", "true", "True", '"', "\r\n", ","]
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=6,
)


def read(files: InputFiles) -> pa.Table:
    reader = UnitReader(files.shards, files.schema)
    parts = [reader.read(Unit(str(s.index), s.index, 0, s.rows)).table for s in files.shards]
    reader.close()
    return pa.concat_tables(parts)


def differs(path: Path, fault: Fault = lambda table: table, **cast: Any) -> tuple[int, str] | None:
    """``cast``: as ``input.cast``."""
    files = discover(Input(path=str(path), cast=cast))
    names = [(name, name) for name in files.schema.names]
    return SecondReading(files.shards, names, cast).differs(0, 0, fault(read(files)))


@quick
@given(rows=st.lists(st.tuples(_cell, _cell), min_size=1, max_size=12))
def test_any_csv_is_read_alike(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_MINIMAL)
        writer.writerow(["a", "b"])
        writer.writerows(rows)

    assert differs(path) is None


def test_cells_that_say_that_they_are_no_numbers_are_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\nNaN,1\nInfinity,2\n-Infinity,3\n2.5,4\n")

    assert differs(path) is None


@quick
@given(rows=st.lists(st.dictionaries(st.sampled_from("abé"), _json), min_size=1, max_size=12))
def test_any_json_is_read_alike(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"a": 1}]))

    assert differs(path) is None


@pytest.mark.parametrize("rows_of_a_group", [1, 2, 100])
def test_parquet_is_read_alike_however_it_is_grouped(tmp_path: Path, rows_of_a_group: int) -> None:
    path = tmp_path / "a.parquet"
    rows = pa.table({"n": range(7), "t": ["x", None, "", "ß", "e", "f", "g"]})
    pq.write_table(rows, path, row_group_size=rows_of_a_group)
    files = discover(Input(path=str(path)))
    second = SecondReading(files.shards, [("n", "n"), ("t", "t")])

    for start, stop in [(1, 3), (3, 4), (6, 7), (0, 7)]:
        assert second.differs(0, start, rows.slice(start, stop - start)) is None


CSV = 'code,n,f,text,flag\n01067,1,0.5,"a\r\nb",true\n10115,2,1.5,"",false\n00001,3,2.5,,true\n'
JSONL = (
    '{"big": 9007199254740993, "f": 0.5, "o": {"a": 1, "b": [1, 2]}, "u": 18446744073709551615}\n'
    '{"big": 1, "f": 1.5, "o": {"a": 2}, "u": 1, "late": "x"}\n'
    '{"big": 2, "f": 2, "o": null, "u": 2, "late": null}\n'
)


TEXTS = '{"v": 2.50}\n{"v": "x"}\n{"v": [1.10, true]}\n{"v": 0.123456789012345678901}\n'


def made(name: str, change: Callable[[Any], Any], kind: pa.DataType | None = None) -> Fault:
    """A reader that makes something else of each value of a column."""

    def fault(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(name)
        values = [change(value) for value in table.column(place).to_pylist()]
        return table.set_column(place, name, pa.array(values, kind or table.schema.types[place]))

    return fault


def _shifted(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table.slice(1), table.slice(0, 1)])


def _swapped(table: pa.Table) -> pa.Table:
    return table.take(pc.sort_indices(table.column(1), sort_keys=[("", "descending")]))


@pytest.mark.parametrize(
    ("file", "content", "fault"),
    [
        pytest.param("a.csv", CSV, made("code", int, pa.int64()), id="a code becomes a number"),
        pytest.param("a.csv", CSV, made("n", lambda n: n + 1), id="another number"),
        pytest.param("a.csv", CSV, made("f", int, pa.int64()), id="a fraction is cut off"),
        pytest.param(
            "a.csv", CSV, made("text", lambda t: t and t.replace("\r", "")), id="a CR is lost"
        ),
        pytest.param("a.csv", CSV, made("text", lambda t: t or None), id="empty text is null"),
        pytest.param("a.csv", CSV, made("text", lambda t: t or ""), id="null is empty text"),
        pytest.param("a.csv", CSV, made("flag", lambda f: not f), id="a truth is turned round"),
        pytest.param("a.csv", CSV, made("flag", int, pa.int64()), id="a truth is a number"),
        pytest.param("a.csv", CSV, _shifted, id="rows of CSV are shifted"),
        pytest.param("a.jsonl", JSONL, made("big", float, pa.float64()), id="an integer rounded"),
        pytest.param("a.jsonl", JSONL, made("f", int, pa.int64()), id="0.5 becomes 0"),
        pytest.param("a.jsonl", TEXTS, made("v", lambda v: v.rstrip("0")), id="2.50 becomes 2.5"),
        pytest.param(
            "a.jsonl", TEXTS, made("v", lambda v: v.replace("[1.10", "[1.1")), id="and in a list"
        ),
        pytest.param(
            "a.jsonl", TEXTS, made("v", lambda v: v.replace("67890", "67")), id="a number rounded"
        ),
        pytest.param(
            "a.jsonl", TEXTS, made("v", lambda v: v.replace("true", "1")), id="a truth is 1"
        ),
        pytest.param(
            "a.jsonl",
            JSONL,
            made("o", lambda o: o and {"a": o["a"]}, pa.struct([("a", pa.int64())])),
            id="a field of objects is dropped",
        ),
        pytest.param("a.jsonl", JSONL, made("o", lambda o: None), id="objects are dropped"),
        pytest.param("a.jsonl", JSONL, made("late", lambda v: None), id="a late field is null"),
        pytest.param("a.jsonl", JSONL, made("u", lambda u: u % 2**63), id="a sign bit is lost"),
        pytest.param("a.jsonl", JSONL, _shifted, id="lines are shifted"),
        pytest.param("a.jsonl", JSONL, _swapped, id="lines are sorted"),
    ],
)
def test_a_fault_of_a_reader_shows(tmp_path: Path, file: str, content: str, fault: Fault) -> None:
    path = tmp_path / file
    path.write_bytes(content.encode())

    assert differs(path) is None
    assert differs(path, fault) is not None


@pytest.mark.parametrize("fault", [_shifted, made("n", lambda n: n + 1), made("n", float)])
def test_a_fault_of_the_parquet_reader_shows(tmp_path: Path, fault: Fault) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": [2**53 + 1, 2, 3], "t": ["a", "b", "c"]}), path)

    assert differs(path) is None
    assert differs(path, fault) is not None


def _text_of(*values: bytes) -> pa.Array:
    return pa.array(values, pa.binary()).view(pa.string())


@pytest.mark.parametrize(
    ("inside", "made"),
    [
        (pa.array([0, 1, 5], pa.timestamp("ns")), pa.array([0, 2, 5], pa.timestamp("ns"))),
        (_text_of(b"a", b"\xff", b"b"), _text_of(b"a", b"\xfe", b"b")),
    ],
    ids=["nanoseconds", "text that is not UTF-8"],
)
def test_what_python_does_not_tell_apart_shows(
    tmp_path: Path, inside: pa.Array, made: pa.Array
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"v": inside}), path)

    assert differs(path) is None
    assert differs(path, lambda table: pa.table({"v": made})) == (1, "v")


CASTS = {"code": "int64", "f": "float64", "d": "date", "t": "timestamp", "b": "bool", "s": "string"}
CAST_CSV = (
    "code,f,d,t,b,s\n"
    "01067,1.50,2024-01-31,2024-01-31 10:00:00,true,7\n"
    "3,2,2024-02-01,2024-01-31T10:00:00.5,false,8\n"
)
CAST_JSONL = (
    '{"code": "01067", "f": "1.50", "d": "2024-01-31", "t": "2024-01-31 10:00:00", "b": "true", '
    '"s": {"a": "é"}}\n{"code": "3", "f": 2, "d": null, "t": null, "b": "false", "s": 7}\n'
)
CASTED_FAULTS = [
    pytest.param(made("code", lambda n: n + 1), id="another number"),
    pytest.param(made("f", lambda f: f / 10), id="another fraction"),
    pytest.param(made("d", lambda d: d and d + timedelta(1)), id="another day"),
    pytest.param(made("t", lambda t: t and t + timedelta(hours=1)), id="another hour"),
    pytest.param(made("b", lambda b: not b), id="a truth is turned round"),
    pytest.param(made("s", lambda s: s + " "), id="more text"),
    pytest.param(made("s", lambda s: None), id="null"),
]


@pytest.mark.parametrize("column", [[Decimal("2.50")], [[Decimal("2.50"), None]], [1e16]])
def test_numbers_that_are_cast_to_text_are_read_alike(tmp_path: Path, column: list[Any]) -> None:
    pq.write_table(pa.table({"v": column}), tmp_path / "a.parquet")

    assert differs(tmp_path / "a.parquet", v="string") is None


@pytest.mark.parametrize(
    ("kind", "good", "bad"), [("float64", "Infinity", "1e400"), ("int64", "7", "0x10")]
)
@pytest.mark.parametrize("line", ['"v"\n"{}"\n"{}"\n', '{{"v": "{}"}}\n{{"v": "{}"}}\n'])
def test_a_number_that_a_cast_would_change_is_an_invalid_row(
    tmp_path: Path, line: str, kind: Any, good: str, bad: str
) -> None:
    path = tmp_path / ("a.jsonl" if "{{" in line else "a.csv")
    path.write_text(line.format(good, bad))
    files = discover(Input(path=str(path), cast={"v": kind}))
    reader = UnitReader(files.shards, files.schema)

    rows = reader.read(Unit("u", 0, 0, 2))
    assert list(rows.invalid) == [1]
    assert rows.table["v"].to_pylist() == [float(good), None]
    reader.close()


def test_a_number_that_a_cast_made_infinite_shows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("v\n1e400\n")

    assert differs(path, made("v", lambda v: float("inf")), v="float64") == (0, "v")


def _cast_input(folder: Path, kind: str) -> Path:
    path = folder / f"a.{kind}"
    if kind == "parquet":
        rows = {
            "code": ["01067", "3"],
            "f": [1, 2],
            "d": ["2024-01-31", None],
            "t": [date(2024, 1, 31), None],
            "b": ["true", "false"],
            "s": [datetime(2024, 1, 31, 1, 2, 3, 4), datetime(2024, 1, 31)],
        }
        pq.write_table(pa.table(rows), path)
    else:
        path.write_text(CAST_CSV if kind == "csv" else CAST_JSONL)
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_columns_that_are_cast_are_read_alike(tmp_path: Path, kind: str) -> None:
    assert differs(_cast_input(tmp_path, kind), **CASTS) is None


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("fault", CASTED_FAULTS)
def test_a_fault_of_a_cast_shows(tmp_path: Path, kind: str, fault: Fault) -> None:
    assert differs(_cast_input(tmp_path, kind), fault, **CASTS) is not None
