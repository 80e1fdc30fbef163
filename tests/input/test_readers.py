"""Readers: any stretch of rows, in any order of asking, is that stretch of the whole file."""

from __future__ import annotations

import csv
import json
from datetime import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.input.formats.base import STRIDE
from pipeline.input.formats.csv import format
from pipeline.input.plain import plain_rows
from pipeline.input.units import Unit
from pipeline.job.template.field_text import as_text
from pipeline.job.template.render import Template
from tests.input.reading import check, open_file, read_all, sample_rows, stretches
from tests.support.samples import json_lines, quick


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


@quick
@given(data=st.data(), count=st.integers(1, 300))
def test_a_stretch_of_a_csv_file_whose_rows_are_more_than_arrow_takes_at_once(
    tmp_path: Path, data: st.DataObject, count: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(format, "_MOST_AT_ONCE", 0)
        test_a_stretch_of_a_csv_file.hypothesis.inner_test(tmp_path, data, count)


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


def test_dictionaries_within_structs_are_read_over_row_groups(tmp_path: Path) -> None:
    kind = pa.struct([("code", pa.dictionary(pa.int8(), pa.string()))])
    values = [{"code": f"c{row // 4}"} for row in range(10)]
    table = pa.table({"text": [str(row) for row in range(10)], "about": pa.array(values, kind)})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=4)

    rows = read_all(tmp_path / "rows.parquet")

    assert rows.table["about"].type == kind
    assert rows.table["about"].to_pylist() == values


def test_nested_columns_come_as_they_are(tmp_path: Path) -> None:
    rows = [{"m": [{"role": "user", "content": "hi"}], "s": {"a": {"b": 1}}}]
    json_lines(tmp_path / "a.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")

    assert read_all(tmp_path / "a.jsonl").table.to_pylist() == rows
    assert read_all(tmp_path / "a.parquet").table.to_pylist() == rows


def test_times_within_structs_are_exact_or_refused() -> None:
    kind = pa.struct([("t", pa.time64("ns"))])
    times = pa.array([1000, 1001, None], pa.int64()).cast(pa.time64("ns"))
    table = pa.table({"about": pa.StructArray.from_arrays([times], fields=list(kind))})

    rows, wrong = plain_rows(table)
    assert [row.get("about") for row in rows] == [{"t": time(0, 0, 0, 1)}, None, {"t": None}]
    assert wrong == {1: "a value cannot be read: a time of day in 'about' has nanoseconds"}
