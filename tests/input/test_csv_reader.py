"""CSV files, row by row as they are meant."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import JobFailed, UsageError
from pipeline.input.shards import discover
from pipeline.input.units import Unit
from pipeline.job.job import Input
from tests.input.reading import open_file, read_all
from tests.support.samples import lines


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
    tmp_path: Path, cells: list[str], kind: pa.DataType, values: list[object]
) -> None:
    """An empty cell is null, an empty pair of quotes is empty text."""
    path = lines(tmp_path / "a.csv", ["c,d", *(f"{cell},-" for cell in cells)])

    column = read_all(path).table.column("c")
    assert (column.type, column.to_pylist()) == (kind, values)


def test_a_type_that_only_a_late_cell_rules_out_is_ruled_out(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.csv", ["c,d", *[f"1,{'x' * 400}"] * 6000, "late,x"])

    assert discover(Input(path=path)).schema.field("c").type == pa.string()


def test_a_line_with_too_many_cells_is_refused_and_shown(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.csv", ["a,b", "1,2", "1,2,3"])

    with pytest.raises(UsageError, match="got 3: 1,2,3"):
        discover(Input(path=path))


@pytest.mark.parametrize("cell", ["x" * 140_000, f'"{"y," * 140_000}"', f'"{"a" * 3_000_000}"'])
@pytest.mark.parametrize("end", ["", "\n"])
def test_a_long_cell_in_the_last_line_is_a_cell(tmp_path: Path, cell: str, end: str) -> None:
    (tmp_path / "a.csv").write_text(f"id,text\n1,{cell}{end}")

    assert read_all(tmp_path / "a.csv").table["text"].to_pylist() == [cell.strip('"')]


@pytest.mark.parametrize("end", ["", "\n", "\r"])
def test_an_empty_cell_is_null_also_at_the_end_of_the_file(tmp_path: Path, end: str) -> None:
    """After a quoted one as well."""
    (tmp_path / "a.csv").write_bytes(f'a,b\n"x",1\n"y",{end}'.encode())

    assert read_all(tmp_path / "a.csv").table.to_pylist() == [
        {"a": "x", "b": 1},
        {"a": "y", "b": None},
    ]


def test_many_empty_lines_may_come_before_the_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n" * (1 << 20) + "a,b\n1,2\n")

    assert read_all(tmp_path / "a.csv").table.to_pylist() == [{"a": 1, "b": 2}]


def test_a_header_may_be_long(tmp_path: Path) -> None:
    names = [f"{number}{'x' * 400}" for number in range(3000)]
    (tmp_path / "a.csv").write_text(f"{','.join(names)}\n{'1,' * 2999}1\n")

    assert read_all(tmp_path / "a.csv").table.column_names == names


def test_a_file_that_was_emptied_after_the_plan_is_damaged(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.csv", ["a,b", "1,2"])
    _, reader = open_file(path)
    Path(path).write_text("")

    with pytest.raises(JobFailed, match="was changed"):
        reader.read(Unit("u", 0, 0, 1))


def test_a_header_that_names_a_column_twice_is_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.csv", ["text,text", "1,2"])

    with pytest.raises(UsageError, match="text"):
        discover(Input(path=path))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text\n\xff\xfe\n")

    with pytest.raises(UsageError, match=r"a\.csv"):
        discover(Input(path=str(tmp_path / "a.csv")))


def test_windows_line_ends_and_a_byte_order_mark_are_no_content(tmp_path: Path) -> None:
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
def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path: Path, header: str, name: str) -> None:
    """As Excel writes it before a header of any kind."""
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + f'{header}1,"2\n3"\r\n'.encode())

    assert read_all(tmp_path / "a.csv").table.to_pylist() == [{name: 1, "c": "2\n3"}]
