"""Readers: any stretch of rows, in any order of asking, is that stretch of the whole file."""

from __future__ import annotations

import csv
import json
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import JobFailed, UsageError
from pipeline.input.formats.base import STRIDE, Rows
from pipeline.input.formats.jsonl.format import JsonlReader
from pipeline.input.reader import UnitReader
from pipeline.input.shards import InputFiles, discover
from pipeline.input.units import Unit
from pipeline.job.job import Input
from pipeline.job.template.field_text import as_text
from pipeline.job.template.render import Template
from tests.samples import json_lines, lines, quick


def stretches(rows: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    pair = st.tuples(st.integers(0, rows), st.integers(0, rows)).map(sorted).map(tuple)
    return st.lists(pair, min_size=1, max_size=6)


def open_file(path: Path | str) -> tuple[InputFiles, UnitReader]:
    files = discover(Input(path=str(path)))
    return files, UnitReader(files.shards, files.schema)


def read_all(path: Path | str) -> Rows:
    files, reader = open_file(path)
    read = reader.read(Unit("u", 0, 0, files.rows))
    reader.close()
    return read


def check(path: Path, expected: list[dict[str, object]], asked: list[tuple[int, int]]) -> None:
    files, reader = open_file(path)
    assert files.rows == len(expected)
    for start, stop in asked:
        assert reader.read(Unit("u", 0, start, stop)).table.to_pylist() == expected[start:stop]
    reader.close()


def sample_rows(count: int) -> list[dict[str, object]]:
    return [{"n": i, "text": None if i % 7 == 3 else f'row {i}, "{i}"\nend'} for i in range(count)]


@quick
@given(data=st.data(), groups=st.lists(st.integers(0, 1500), min_size=1, max_size=5))
def test_a_stretch_of_a_parquet_file(
    tmp_path: Path, data: st.DataObject, groups: list[int]
) -> None:
    expected = sample_rows(sum(groups))
    schema = pa.schema([("n", pa.int64()), ("text", pa.string())])
    start = 0
    with pq.ParquetWriter(tmp_path / "a.parquet", schema) as writer:
        for size in groups:
            writer.write_table(pa.Table.from_pylist(expected[start : start + size], schema))
            start += size

    check(tmp_path / "a.parquet", expected, data.draw(stretches(len(expected))))


@quick
@given(data=st.data(), count=st.integers(1, 3 * STRIDE), blanks=st.sets(st.integers(0, 300)))
def test_a_stretch_of_a_jsonl_file(
    tmp_path: Path, data: st.DataObject, count: int, blanks: set[int]
) -> None:
    """Blank lines are no rows, wherever they stand."""
    expected = sample_rows(count)
    text = "".join(
        ("\n  \n" if i in blanks else "") + json.dumps(row) + "\n" for i, row in enumerate(expected)
    )
    (tmp_path / "a.jsonl").write_text(text, encoding="utf-8")

    check(tmp_path / "a.jsonl", expected, data.draw(stretches(count)))


@quick
@given(data=st.data(), count=st.integers(1, 300))
def test_a_stretch_of_a_csv_file(tmp_path: Path, data: st.DataObject, count: int) -> None:
    """Quoted commas, quotes and line breaks are text, empty cells are null."""
    expected = sample_rows(count)
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["n", "text"])
        writer.writeheader()
        writer.writerows(expected)

    check(tmp_path / "a.csv", expected, data.draw(stretches(count)))


def test_a_stretch_of_a_csv_file_of_many_blocks(tmp_path: Path) -> None:
    """pyarrow reads a megabyte at a time."""
    expected: list[dict[str, object]] = [{"n": i, "text": "x" * 500} for i in range(6000)]
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["n", "text"])
        writer.writeheader()
        writer.writerows(expected)

    check(tmp_path / "a.csv", expected, [(0, 10), (2000, 2300), (5990, 6000), (100, 4000)])


def test_columns_of_parquet_files_follow_the_common_schema(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1], "y": ["a"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"y": ["b"], "x": [2]}), tmp_path / "b.parquet")

    _, reader = open_file(tmp_path / "*.parquet")
    second = reader.read(Unit("u", 1, 0, 1)).table
    reader.close()
    assert second.to_pylist() == [{"x": 2, "y": "b"}]


def test_shards_may_be_read_in_turn(tmp_path: Path) -> None:
    for name in ("a", "b"):
        json_lines(tmp_path / f"{name}.jsonl", [{"text": f"{name}{i}"} for i in range(3)])

    _, reader = open_file(tmp_path / "*.jsonl")
    read = [reader.read(Unit("u", s, 1, 2)).table.to_pylist() for s in (0, 1, 0)]
    reader.close()
    assert read == [[{"text": "a1"}], [{"text": "b1"}], [{"text": "a1"}]]


@pytest.mark.parametrize(
    ("name", "content", "more"),
    [
        ("a.csv", "id,text\n1,a\n2,b\n", "4"),
        ("a.csv", "id,text\n1,a\n2,b\n", '4,"'),
        ("a.csv", "id,text\n1,a\n2,b", "c,d\n3,x\n"),
        ("a.csv", "id,text\n1,a\n2,b\n", "é\n"),
        ("a.tsv", "id\ttext\n1\ta\n2\tb\n", 'x"y\n'),
        ("a.jsonl", '{"id": 1, "text": "a"}\n{"id": 2, "text": "b"}', "x\n"),
        ("a.jsonl", '{"id": 1, "text": "a"}\n{"id": 2, "text": "b"}\n', '{"i'),
    ],
)
def test_what_is_appended_after_the_scan_is_not_read(
    tmp_path: Path, name: str, content: str, more: str
) -> None:
    """A unit may be read hours later."""
    path = tmp_path / name
    path.write_text(content)
    _, reader = open_file(path)
    with path.open("a") as file:
        file.write(more)

    for start in (0, 1):
        rows = [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}][start:]
        assert reader.read(Unit("u", 0, start, 2)).table.to_pylist() == rows
    reader.close()


def test_a_unit_without_rows_has_the_columns(tmp_path: Path) -> None:
    _, reader = open_file(json_lines(tmp_path / "a.jsonl", [{"text": "x"}]))

    assert reader.read(Unit("u", 0, 0, 0)).table.schema.names == ["text"]


@pytest.mark.parametrize(
    ("kind", "number", "text"),
    [
        (pa.timestamp("ns"), 1_577_836_800_123_456_789, "2020-01-01T00:00:00.123456789"),
        (pa.timestamp("ns"), 1_577_836_800_000_000_000, "2020-01-01T00:00:00"),
        (pa.timestamp("ns"), -1, "1969-12-31T23:59:59.999999999"),
        (pa.timestamp("ns", "+01:00"), 1, "1970-01-01T01:00:00.000000001+01:00"),
        (pa.time64("ns"), 45_000_000_001, "00:00:45.000000001"),
        (pa.time64("ns"), 45_000_000_000, "00:00:45"),
    ],
)
def test_prompts_write_nanoseconds(
    tmp_path: Path, kind: pa.DataType, number: int, text: str
) -> None:
    pq.write_table(pa.table({"t": pa.array([None, number], kind)}), tmp_path / "a.parquet")

    rows, _ = read_all(tmp_path / "a.parquet").plain(["t"]).read(0, 2)
    assert rows[0]["t"] is None
    assert as_text(rows[1]["t"]) == text
    second = Template("{{ t.second }}", jinja=True).render(rows[1])
    assert second == str(int(text.partition("T")[2][6:8] or text[6:8]))


def test_nested_columns_come_as_they_are(tmp_path: Path) -> None:
    rows = [{"m": [{"role": "user", "content": "hi"}], "s": {"a": {"b": 1}}}]
    json_lines(tmp_path / "a.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")

    assert read_all(tmp_path / "a.jsonl").table.to_pylist() == rows
    assert read_all(tmp_path / "a.parquet").table.to_pylist() == rows


class TestCsv:
    @pytest.mark.parametrize(
        ("cells", "kind", "values"),
        [
            (["1", "", "-2"], pa.int64(), [1, None, -2]),
            (["1.0", "2.5"], pa.float64(), [1.0, 2.5]),
            (["1", "2.5"], pa.string(), ["1", "2.5"]),
            (["01067", "10115"], pa.string(), ["01067", "10115"]),
            (["12345678901234567890"], pa.string(), ["12345678901234567890"]),
            (["9223372036854775807"], pa.int64(), [2**63 - 1]),
            (["1e5", "2e7"], pa.string(), ["1e5", "2e7"]),
            (["2.50"], pa.string(), ["2.50"]),
            (["+1"], pa.string(), ["+1"]),
            (["-0"], pa.string(), ["-0"]),
            ([" 1"], pa.string(), [" 1"]),
            (["nan", "inf"], pa.string(), ["nan", "inf"]),
            (["True"], pa.string(), ["True"]),
            (["1", "true"], pa.string(), ["1", "true"]),
            (["true", "false"], pa.bool_(), [True, False]),
            (["1", "x"], pa.string(), ["1", "x"]),
            (["NA", "null", "NaN!"], pa.string(), ["NA", "null", "NaN!"]),
            (["x", '""', ""], pa.string(), ["x", "", None]),
            (["", ""], pa.string(), [None, None]),
        ],
    )
    def test_a_column_has_the_narrowest_type_of_all_its_cells(
        self, tmp_path: Path, cells: list[str], kind: pa.DataType, values: list[object]
    ) -> None:
        """An empty cell is null, an empty pair of quotes is empty text."""
        path = lines(tmp_path / "a.csv", ["c,d", *(f"{cell},-" for cell in cells)])

        column = read_all(path).table.column("c")
        assert (column.type, column.to_pylist()) == (kind, values)

    def test_a_type_that_only_a_late_cell_rules_out_is_ruled_out(self, tmp_path: Path) -> None:
        path = lines(tmp_path / "a.csv", ["c,d", *[f"1,{'x' * 400}"] * 6000, "late,x"])

        assert discover(Input(path=path)).schema.field("c").type == pa.string()

    def test_a_line_with_too_many_cells_is_refused_and_shown(self, tmp_path: Path) -> None:
        path = lines(tmp_path / "a.csv", ["a,b", "1,2", "1,2,3"])

        with pytest.raises(UsageError, match="got 3: 1,2,3"):
            discover(Input(path=path))

    @pytest.mark.parametrize("cell", ["x" * 140_000, f'"{"y," * 140_000}"', f'"{"a" * 3_000_000}"'])
    @pytest.mark.parametrize("end", ["", "\n"])
    def test_a_long_cell_in_the_last_line_is_a_cell(
        self, tmp_path: Path, cell: str, end: str
    ) -> None:
        (tmp_path / "a.csv").write_text(f"id,text\n1,{cell}{end}")

        assert read_all(tmp_path / "a.csv").table["text"].to_pylist() == [cell.strip('"')]

    @pytest.mark.parametrize("end", ["", "\n", "\r"])
    def test_an_empty_cell_is_null_also_at_the_end_of_the_file(
        self, tmp_path: Path, end: str
    ) -> None:
        """After a quoted one as well."""
        (tmp_path / "a.csv").write_bytes(f'a,b\n"x",1\n"y",{end}'.encode())

        assert read_all(tmp_path / "a.csv").table.to_pylist() == [
            {"a": "x", "b": 1},
            {"a": "y", "b": None},
        ]

    def test_many_empty_lines_may_come_before_the_header(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("\n" * (1 << 20) + "a,b\n1,2\n")

        assert read_all(tmp_path / "a.csv").table.to_pylist() == [{"a": 1, "b": 2}]

    def test_a_header_may_be_long(self, tmp_path: Path) -> None:
        names = [f"{number}{'x' * 400}" for number in range(3000)]
        (tmp_path / "a.csv").write_text(f"{','.join(names)}\n{'1,' * 2999}1\n")

        assert read_all(tmp_path / "a.csv").table.column_names == names

    def test_a_file_that_was_emptied_after_the_plan_is_damaged(self, tmp_path: Path) -> None:
        path = lines(tmp_path / "a.csv", ["a,b", "1,2"])
        _, reader = open_file(path)
        Path(path).write_text("")

        with pytest.raises(JobFailed, match="was changed"):
            reader.read(Unit("u", 0, 0, 1))

    def test_a_header_that_names_a_column_twice_is_refused(self, tmp_path: Path) -> None:
        path = lines(tmp_path / "a.csv", ["text,text", "1,2"])

        with pytest.raises(UsageError, match="text"):
            discover(Input(path=path))

    def test_bytes_that_are_no_text_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_bytes(b"text\n\xff\xfe\n")

        with pytest.raises(UsageError, match=r"a\.csv"):
            discover(Input(path=str(tmp_path / "a.csv")))

    def test_windows_line_ends_and_a_byte_order_mark_are_no_content(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext,n\r\nx,1\r\n")

        assert read_all(tmp_path / "a.csv").table.to_pylist() == [{"text": "x", "n": 1}]

    @pytest.mark.parametrize(
        ("header", "name"),
        [
            ('"a\r\nb",c\r\n', "a\r\nb"),
            ('"a,b",c\r\n', "a,b"),
            ("\r\na,c\r\n", "a"),
            ('"x ""y""",c\n', 'x "y"'),
        ],
    )
    def test_a_byte_order_mark_is_no_part_of_the_header(
        self, tmp_path: Path, header: str, name: str
    ) -> None:
        """As Excel writes it before a header of any kind."""
        (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + f'{header}1,"2\n3"\r\n'.encode())

        assert read_all(tmp_path / "a.csv").table.to_pylist() == [{name: 1, "c": "2\n3"}]


class TestJsonl:
    def test_a_malformed_line_is_an_invalid_row_and_the_others_are_fine(
        self, tmp_path: Path
    ) -> None:
        path = lines(tmp_path / "a.jsonl", ['{"text": "a"}', '{"text": ', '{"text": "c"}'])

        read = read_all(path)
        assert read.table.to_pylist() == [{"text": "a"}, {"text": None}, {"text": "c"}]
        assert read.invalid == {1: "the line is not a JSON object"}

    @pytest.mark.parametrize("line", ["[1]", "3", '"text"', "null", "nonsense", "[" * 100_000])
    def test_a_line_that_is_no_object_is_an_invalid_row(self, tmp_path: Path, line: str) -> None:
        path = lines(tmp_path / "a.jsonl", ['{"text": "a"}', line])

        assert set(read_all(path).invalid) == {1}

    def test_positions_of_invalid_rows_count_from_the_units_start(self, tmp_path: Path) -> None:
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
        self, tmp_path: Path, values: list[object], kind: pa.DataType, held: list[object] | None
    ) -> None:
        path = json_lines(tmp_path / "a.jsonl", [{"v": value} for value in values])

        read = read_all(path)
        column = read.table.column("v")
        assert (column.type, column.to_pylist()) == (kind, values if held is None else held)
        assert read.invalid == {}

    @pytest.mark.parametrize("late", [0.5, 2**64 - 1, "x", {"a": 1}, [1], True])
    def test_a_value_that_comes_late_decides_too(self, tmp_path: Path, late: object) -> None:
        rows = [*({"v": 1, "pad": "x" * 500} for _ in range(4000)), {"v": late}]

        last = read_all(json_lines(tmp_path / "a.jsonl", rows)).table.column("v")[-1].as_py()
        assert last == (
            late if isinstance(late, float | int) and late is not True else as_text(late)
        )

    def test_a_field_that_comes_late_is_a_column(self, tmp_path: Path) -> None:
        rows = [*({"pad": "x" * 500} for _ in range(4000)), {"new": {"a": [1]}}]

        assert read_all(json_lines(tmp_path / "a.jsonl", rows)).table["new"][-1].as_py() == {
            "a": [1]
        }

    @pytest.mark.parametrize("number", ["1", "1.0", "2.50", "1e5", "-0.0", "9007199254740993"])
    def test_prompts_write_a_number_as_the_file_does(self, tmp_path: Path, number: str) -> None:
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
        self, tmp_path: Path, values: list[str], held: list[object] | None
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
        self, tmp_path: Path, kind: Any, number: str, held: object
    ) -> None:
        path = lines(tmp_path / "a.jsonl", [f'{{"v": {number}}}'])
        files = discover(Input(path=path, cast={"v": kind}))

        with closing(UnitReader(files.shards, files.schema)) as reader:
            assert reader.read(Unit("u", 0, 0, 1)).table["v"].to_pylist() == [held]

    def test_maps_of_maps_do_not_become_columns_without_end(self, tmp_path: Path) -> None:
        """Each key of a line's map, and of the maps in it, is in no other line."""
        rows = [
            {"m": {f"u{i}": {f"{i} {k}": 1.5 for k in range(100)}}, "o": {"a": {"b": i}}}
            for i in range(200)
        ]

        read = read_all(json_lines(tmp_path / "a.jsonl", rows))
        other = pa.struct([("a", pa.struct([("b", pa.int64())]))])
        assert read.table.schema.types == [pa.string(), other]
        assert [json.loads(text) for text in read.table["m"].to_pylist()] == [
            row["m"] for row in rows
        ]

    def test_a_number_too_large_for_any_type_is_an_invalid_row(self, tmp_path: Path) -> None:
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
        self, tmp_path: Path, kind: pa.DataType, told: object, other: object
    ) -> None:
        """As where the job casts it, or the file is another one by now."""
        path = json_lines(tmp_path / "a.jsonl", [{"v": told}, {"v": other}])

        with closing(JsonlReader(path, pa.schema([("v", kind)]), (0,))) as reader:
            read = reader.read(0, 2)
        assert read.invalid == {1: f"field 'v' is not a {kind}"}
        assert [value is None for value in read.table.column("v").to_pylist()] == [False, True]

    def test_a_whole_number_with_a_point_may_be_cast_to_an_integer(self, tmp_path: Path) -> None:
        path = json_lines(tmp_path / "a.jsonl", [{"v": 2.0}, {"v": "3"}, {"v": None}])

        with closing(JsonlReader(path, pa.schema([("v", pa.int64())]), (0,))) as reader:
            read = reader.read(0, 3)
        assert (read.table.column("v").to_pylist(), read.invalid) == ([2, 3, None], {})

    def test_fractions_beside_one_that_is_no_number_are_still_numbers(self, tmp_path: Path) -> None:
        path = lines(tmp_path / "a.jsonl", ['{"a": NaN, "b": 1.5}', '{"a": 1, "b": 2.5}'])

        assert read_all(path).table.column("b").to_pylist() == [1.5, 2.5]

    def test_half_a_surrogate_pair_is_an_invalid_row(self, tmp_path: Path) -> None:
        """Cut-off tweets end in one: JSON can say it, UTF-8 cannot."""
        path = lines(tmp_path / "a.jsonl", ['{"text": "a"}', '{"text": "b \\ud83d"}'])

        assert set(read_all(path).invalid) == {1}

    def test_a_field_that_a_line_lacks_is_null(self, tmp_path: Path) -> None:
        path = json_lines(tmp_path / "a.jsonl", [{"a": 1}, {"b": "x"}])

        read = read_all(path)
        assert read.table.to_pylist() == [{"a": 1, "b": None}, {"a": None, "b": "x"}]
        assert read.invalid == {}

    def test_a_last_line_without_its_end_is_a_row(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 2}', encoding="utf-8")

        assert read_all(tmp_path / "a.jsonl").table.column("a").to_pylist() == [1, 2]

    def test_a_file_without_any_object_is_refused(self, tmp_path: Path) -> None:
        path = lines(tmp_path / "a.jsonl", ["not", "json"])

        with pytest.raises(UsageError, match="no line of it is a JSON object"):
            discover(Input(path=path))
