"""Reading files as a unit of work does."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from pipeline.input.formats.base import Rows
from pipeline.input.reader import UnitReader
from pipeline.input.shards import InputFiles, discover
from pipeline.input.units import Unit
from pipeline.job.job import Input


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
