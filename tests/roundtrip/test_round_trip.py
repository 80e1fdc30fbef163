"""What goes in comes out: generated tables are run, and what others read in the output is what
they read in the input. Fifty cases; two thousand with the mark ``long``."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from pipeline import job_from
from pipeline.output.verify.dataset import verify
from pipeline.rows.large_tables import in_own_memory
from pipeline.storage.base import open_storage
from tests.chaos.in_process import run_here
from tests.roundtrip.tables import cells, records, same, tables
from tests.support.samples import write_model

pytestmark = pytest.mark.early

_FEW, _MANY = 12, 500  # of each format
_numbers = itertools.count()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("roundtrip")
    write_model(folder / "model")
    return folder


def _examples(number: int) -> settings:
    return settings(
        derandomize=True,
        deadline=None,
        max_examples=number,
        suppress_health_check=list(HealthCheck),
        database=None,
    )


def _place(folder: Path) -> Path:
    made = folder / f"case-{next(_numbers)}"
    made.mkdir()
    return made


def _run(source: Path) -> list[str]:
    """Paths of the output files of a job over ``source``, which ``verify`` found right."""
    output = source.parent / "out"
    run_here(
        job_from(
            {
                "name": "roundtrip",
                "model": str(source.parents[1] / "model"),
                "input": {"path": str(source)},
                "prompt": "{text}",
                "sampling": {"max_tokens": 2},
                "output": {"path": str(output)},
                "engine": {"kind": "simulated"},
            }
        )
    )
    assert verify(open_storage(str(output))).faults == []
    return sorted(str(path) for path in output.glob("*.parquet"))


def _columns(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _duckdb_rows(files: Sequence[str], names: Sequence[str]) -> list[tuple[Any, ...]]:
    listed = ", ".join(f"'{file}'" for file in files)
    return duckdb.sql(f"select {_columns(names)} from read_parquet([{listed}])").fetchall()


def _pandas_rows(files: Sequence[str], names: Sequence[str]) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)[list(names)]


class TestParquet:
    def check(self, folder: Path, table: pa.Table) -> None:
        source = _place(folder) / "rows.parquet"
        with pq.ParquetWriter(source, table.schema) as writer:
            for start in range(0, max(1, table.num_rows), 7):  # a row group each
                writer.write_table(in_own_memory(table.slice(start, 7)))
        files, names = _run(source), table.column_names

        # the file's types: Parquet has no seconds, for one, so a table's may be others
        given, written = pq.read_schema(source), pq.read_schema(files[0])
        for name in names:
            assert written.field(name).type == given.field(name).type
        for read in (_duckdb_rows, _pandas_rows):
            try:
                meant = read([str(source)], names)
            except (duckdb.Error, pa.ArrowException, ValueError):  # a type that it cannot read
                continue
            found = read(files, names)
            if isinstance(meant, pd.DataFrame):
                pd.testing.assert_frame_equal(found, meant)
            else:
                assert found == meant

    @_examples(_FEW)
    @given(table=tables())
    def test_some(self, folder: Path, table: pa.Table) -> None:
        self.check(folder, table)

    @pytest.mark.long
    @_examples(_MANY)
    @given(table=tables())
    def test_many(self, folder: Path, table: pa.Table) -> None:
        self.check(folder, table)


class TestCsv:
    def check(self, folder: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        source = _place(folder) / "rows.csv"
        with source.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
        files = _run(source)

        theirs = duckdb.sql(
            f"select * from read_csv('{source}', all_varchar=true, header=true, delim=',',"
            " quote='\"', escape='\"', auto_detect=false, parallel=false,"
            f" columns={dict.fromkeys(header, 'VARCHAR')})"
        ).fetchall()
        ours = _duckdb_rows(files, header)
        assert [[_text(cell) for cell in row] for row in ours] == [
            ["" if cell is None else cell for cell in row] for row in theirs
        ]
        read = pd.read_csv(source, dtype=str, keep_default_na=False)
        frame = pd.concat(pd.read_parquet(f, dtype_backend="numpy_nullable") for f in files)
        frame = frame[list(header)].astype(object)
        assert [[_text(cell) for cell in row] for row in frame.to_numpy()] == [
            list(row) for row in read.to_numpy()
        ]

    @_examples(_FEW)
    @given(made=cells())
    def test_some(self, folder: Path, made: tuple[list[str], list[list[str]]]) -> None:
        self.check(folder, *made)

    @pytest.mark.long
    @_examples(_MANY)
    @given(made=cells())
    def test_many(self, folder: Path, made: tuple[list[str], list[list[str]]]) -> None:
        self.check(folder, *made)


class TestJsonl:
    """Plain, and packed with gzip."""

    def check(self, folder: Path, made: Sequence[dict[str, Any]], *, packed: bool) -> None:
        source = _place(folder) / ("rows.jsonl.gz" if packed else "rows.jsonl")
        lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in made).encode()
        source.write_bytes(gzip.compress(lines) if packed else lines)
        files = _run(source)

        names = list(dict.fromkeys(name for one in made for name in one))
        raw = dict.fromkeys(names, "JSON")
        theirs = duckdb.sql(
            f"select {_columns(names)} from read_json('{source}', columns={raw},"
            " format='newline_delimited')"
        ).fetchall()
        for ours, row in zip(_duckdb_rows(files, names), theirs, strict=True):
            for value, text in zip(ours, row, strict=True):
                assert _says(value, text), (value, text)

    @_examples(_FEW)
    @given(made=records())
    def test_some(self, folder: Path, made: list[dict[str, Any]]) -> None:
        self.check(folder, made, packed=False)

    @pytest.mark.long
    @_examples(_MANY)
    @given(made=records())
    def test_many(self, folder: Path, made: list[dict[str, Any]]) -> None:
        self.check(folder, made, packed=False)

    @_examples(_FEW)
    @given(made=records())
    def test_some_packed(self, folder: Path, made: list[dict[str, Any]]) -> None:
        self.check(folder, made, packed=True)

    @pytest.mark.long
    @_examples(_MANY)
    @given(made=records())
    def test_many_packed(self, folder: Path, made: list[dict[str, Any]]) -> None:
        self.check(folder, made, packed=True)


def _text(cell: object) -> str:
    """As it stands in a file."""
    if cell is None or cell is pd.NA or cell != cell:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    return str(cell)


def _says(value: object, text: str | None) -> bool:
    """Whether a value of the output is what ``text``, of JSON, says: as a value, or, where a column
    holds values of several kinds, as that very text. Fields that some lack are null."""
    if text is None:
        return value is None
    meant = json.loads(text, parse_float=Decimal)
    return _equal(value, meant) or (
        isinstance(value, str) and json.loads(value) == json.loads(text)
    )


def _equal(value: object, meant: object) -> bool:
    if isinstance(meant, dict):
        if isinstance(value, dict):
            keys = value.keys() | meant.keys()
            return all(_equal(value.get(key), meant.get(key)) for key in keys)
        return _reads_as(value, meant)
    if isinstance(meant, list):
        if isinstance(value, list) and len(value) == len(meant):
            return all(map(_equal, value, meant))
        return _reads_as(value, meant)
    if isinstance(meant, Decimal | int) and not isinstance(meant, bool):
        if isinstance(value, float):
            return value == float(meant) and Decimal(repr(value)) == Decimal(meant)
        return _reads_as(value, meant) or (not isinstance(value, bool | str) and value == meant)
    return same(value, meant) or _reads_as(value, meant)


def _reads_as(value: object, meant: object) -> bool:
    """In a column of several kinds a value is the JSON text of what was meant."""
    if not isinstance(value, str) or (isinstance(meant, str) and value == meant):
        return value == meant
    try:
        return json.loads(value, parse_float=Decimal) == meant
    except ValueError:
        return False
