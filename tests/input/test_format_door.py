"""A format of input files from outside: one line registers it, and jobs read its files."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from pipeline import UsageError
from pipeline.input.formats.base import Mark, Rows, ScannedFile
from pipeline.input.formats.protocol import Looked
from pipeline.input.schema.join import CommonSchema
from pipeline.input.shard import Shard
from pipeline.job.job import Input
from pipeline.job.registries.input_formats import INPUT_FORMATS, InputFormat
from pipeline.output.verify.dataset import verify
from pipeline.storage.base import open_storage
from tests.chaos.in_process import run_here
from tests.support.datasets import job_in

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])


def lines_of(path: str) -> pa.Table:
    lines = Path(path).read_text().splitlines()
    return pa.table({"id": list(range(len(lines))), "text": lines}, SCHEMA)


class Lines:
    """Reads rows, and reads them again."""

    cast: frozenset[str] = frozenset()

    def __init__(self, table: pa.Table) -> None:
        self._table, self._row = table, 0

    def read(self, start: int, stop: int) -> Rows:
        return Rows(self._table.slice(start, stop - start))

    def close(self) -> None:
        pass

    def skip(self, rows: int) -> None:
        self._row += rows

    def differs(self, ours: pa.Table, names: Sequence[tuple[str, str]]) -> tuple[int, str] | None:
        theirs = self._table.slice(self._row, ours.num_rows)
        self._row += ours.num_rows
        wrong = [new for old, new in names if theirs[old].to_pylist() != ours[new].to_pylist()]
        return (0, wrong[0]) if wrong else None


class PlainText(ModuleType):
    """A text file; each line is a row."""

    def scan(self, path: str, readable: str, source: Input) -> ScannedFile:
        return ScannedFile(lines_of(readable).num_rows, SCHEMA)

    def common_schema(self, files: Sequence[Looked]) -> CommonSchema:
        return CommonSchema(SCHEMA)

    def open_reader(self, shard: Shard, schema: pa.Schema) -> Lines:
        return Lines(lines_of(shard.readable))

    def open_second(self, shard: Shard) -> Lines:
        return Lines(lines_of(shard.path))

    def mark_of(self, shard: Shard) -> Mark:
        return Mark()

    def rows_still_there(self, *_: object) -> None:
        return None


@pytest.fixture
def _text(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "plain_text", PlainText("plain_text"))
    INPUT_FORMATS.add(InputFormat("text", "Text", "plain_text", (".txt",)))
    yield
    INPUT_FORMATS.remove("text")


def words(folder: Path) -> Path:
    (folder / "rows").mkdir()
    (folder / "rows" / "a.txt").write_text("one\ntwo\n")
    (folder / "rows" / "b.txt").write_text("three\n")
    return folder


@pytest.mark.usefixtures("_text")
def test_files_of_a_format_that_is_registered_are_labelled_and_verified(tmp_path: Path) -> None:
    run_here(job_in(words(tmp_path)))

    rows = ds.dataset(tmp_path / "out").to_table().to_pydict()
    assert rows["text"] == ["one", "two", "three"]
    assert verify(open_storage(str(tmp_path / "out"))).faults == []


@pytest.mark.usefixtures("_text")
def test_what_verify_reads_again_is_that_formats_own_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_here(job_in(words(tmp_path)))
    other = pa.table({"id": [0, 1], "text": ["other", "words"]}, SCHEMA)
    monkeypatch.setattr(PlainText, "open_second", lambda *_: Lines(other))

    faults = verify(open_storage(str(tmp_path / "out"))).faults
    assert any("column 'text' is not that of row 0" in fault.what for fault in faults)


def test_a_format_that_nobody_registered_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'parquet', 'jsonl' or 'csv', not 'txt'"):
        job_in(tmp_path, input={"path": str(tmp_path), "format": "txt"})
