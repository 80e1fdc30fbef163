"""Files whose schemas drift are one dataset: read by every column's name and the widest type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.driver.plan.plan import check_input
from pipeline.errors import UsageError
from pipeline.input.reader import UnitReader
from pipeline.input.schema.partitions import partition_fields, partition_of
from pipeline.input.shards import discover
from pipeline.input.units import Unit
from pipeline.job.job import Input
from pipeline.output.columns.results import output_columns
from tests.support.samples import job

pytestmark = pytest.mark.usefixtures("large_units")

_LARGE = pa.large_list(pa.large_string())


def rows_of(folder: Path, **options: Any) -> list[dict[str, Any]]:
    files = discover(Input(path=str(folder), **options))
    reader = UnitReader(files.shards, files.schema)
    read = [reader.read(Unit(str(s.index), s.index, 0, s.rows)) for s in files.shards]
    reader.close()
    assert not any(rows.invalid for rows in read)
    return [row for rows in read for row in rows.table.to_pylist()]


def put(folder: Path, *tables: pa.Table) -> Path:
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"{number}.parquet")
    return folder


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([5], pa.int64()), pa.array([0.5])),
        (pa.array([5], pa.int32()), pa.array([2**40])),
        (pa.nulls(1), pa.array(["x"])),
        (pa.array(["a"]).dictionary_encode(), pa.array(["b"], pa.large_string())),
        (pa.array([["x"]]), pa.array([["y"]], _LARGE)),
        (pa.array([{"a": 1}]), pa.array([{"a": 2.5, "b": "new"}])),
        (pa.array([2**64 - 1], pa.uint64()), pa.array([-1])),
    ],
)
def test_values_of_both_files_are_there(tmp_path: Path, one: pa.Array, other: pa.Array) -> None:
    put(tmp_path, pa.table({"v": one, "x": [1]}), pa.table({"x": [2], "v": other}))

    found = [row["v"] for row in rows_of(tmp_path)]
    if isinstance(found[0], dict):
        found[0].pop("b")
    assert found == one.to_pylist() + other.to_pylist()


def test_prompts_write_integers_as_such_beside_fractions_of_another_file(tmp_path: Path) -> None:
    put(tmp_path, pa.table({"v": [5]}), pa.table({"v": [0.5]}))
    files = discover(Input(path=str(tmp_path)))
    reader = UnitReader(files.shards, files.schema)

    [row], _ = reader.read(Unit("0", 0, 0, 1)).plain(["v"]).read(0, 1)
    reader.close()
    assert repr(row["v"]) == "5"


def test_an_integer_that_a_fraction_would_round_is_no_row(tmp_path: Path) -> None:
    put(tmp_path, pa.table({"v": [1, 2**53 + 1]}), pa.table({"v": [0.5]}))
    files = discover(Input(path=str(tmp_path)))
    reader = UnitReader(files.shards, files.schema)

    read = reader.read(Unit("0", 0, 0, 2))
    reader.close()
    assert read.invalid == {1: "column 'v': 9007199254740993 is no exact double"}
    assert read.table.column("v").to_pylist() == [1.0, None]


def test_a_cast_makes_text_of_both(tmp_path: Path) -> None:
    put(tmp_path, pa.table({"v": [17]}), pa.table({"v": ["x1"]}))

    assert [row["v"] for row in rows_of(tmp_path, cast={"v": "string"})] == ["17", "x1"]


@pytest.mark.parametrize("keep", [None, ["text", "v"]])
def test_a_conflict_is_refused_with_the_way_out_where_the_column_is_used(
    tmp_path: Path, keep: list[str] | None
) -> None:
    put(tmp_path, pa.table({"text": ["a"], "v": [17]}), pa.table({"text": ["b"], "v": ["x1"]}))

    with pytest.raises(UsageError, match=r"'v' is int64 in .*0\.parquet, and string in") as caught:
        check_input(job(input={"path": str(tmp_path)}, output={"path": "out", "keep": keep}))
    assert "leave it out: output: {keep: [text]}" in caught.value.hints
    assert "make it text: input: {cast: {v: string}}" in caught.value.hints


def test_a_conflict_that_nobody_uses_costs_nothing(tmp_path: Path) -> None:
    put(tmp_path, pa.table({"text": ["a"], "v": [17]}), pa.table({"text": ["b"], "v": ["x1"]}))

    plan = check_input(job(input={"path": str(tmp_path)}, output={"path": "o", "keep": ["text"]}))
    assert plan.columns.kept == (("text", "text"),)


def test_folders_of_hive_have_values(tmp_path: Path) -> None:
    for folder in ("lang=de/year=2023", "lang=a%2Fb/year=2024", "lang=__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / folder).mkdir(parents=True)
        put(tmp_path / folder, pa.table({"t": [folder[-4:]]}))

    assert {(row["lang"], row["year"]) for row in rows_of(tmp_path)} == {
        ("de", 2023),
        ("a/b", 2024),
        (None, None),
    }


def test_a_column_of_the_file_stands_before_one_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "lang=de").mkdir()
    put(tmp_path / "lang=de", pa.table({"lang": ["own"]}))

    assert rows_of(tmp_path) == [{"lang": "own"}]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("/d/run=1", {"lang": "de"}),
        ("/d/run=1/lang=*/*.parquet", {"lang": "de"}),
        ("/d/run=1/lang=de/a.parquet", {}),
        (None, {"run": "1", "lang": "de"}),
    ],
)
def test_only_folders_below_the_path_are_columns(
    pattern: str | None, found: dict[str, str]
) -> None:
    assert partition_of("/d/run=1/lang=de/a.parquet", pattern) == found


@pytest.mark.parametrize(
    ("values", "kind"),
    [(["1", "22"], pa.int64()), (["01"], pa.string()), (["1", "x"], pa.string()), ([None], None)],
)
def test_folders_are_integers_where_they_are_written_so(
    values: list[str], kind: pa.DataType | None
) -> None:
    [field] = partition_fields([{"v": value} for value in values])
    assert field.type == (kind or pa.string())


def test_what_pandas_says_of_an_index_survives(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a", "b"]}, index=pd.Index([7, 9], name="key"))
    frame.to_parquet(tmp_path / "0.parquet")
    schema = discover(Input(path=str(tmp_path))).schema
    columns = output_columns(job(), schema)
    table = pa.table({"text": ["a", "b"], "key": [7, 9]}).cast(
        pa.schema([columns.schema.field("text"), columns.schema.field("key")])
    )

    back = table.replace_schema_metadata(columns.schema.metadata).to_pandas()
    assert back.index.tolist() == [7, 9]
    assert back.index.name == "key"


def test_what_is_said_of_a_column_and_of_classes_survives(tmp_path: Path) -> None:
    features = b'{"info": {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}}}'
    field = pa.field("label", pa.int64(), metadata={"unit": "class"})
    table = pa.table({"label": [1], "text": ["a"]}, pa.schema([field, ("text", pa.string())]))
    put(tmp_path, table.replace_schema_metadata({b"huggingface": features}))

    schema = output_columns(job(), discover(Input(path=str(tmp_path))).schema).schema
    assert json.loads(schema.metadata[b"huggingface"]) == json.loads(features)
    assert schema.field("label").metadata == {b"unit": b"class"}
