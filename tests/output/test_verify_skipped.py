"""Rows at the beginning of a file that a job leaves out, wherever they end and whatever the file's
format: verify compares the others with the input."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from pipeline.input.formats.base import STRIDE
from pipeline.output.verify.dataset import verify
from pipeline.storage.base import open_storage
from tests.support.datasets import finish, job_in, rows_of

ROWS = 5 * STRIDE


def _lines(table: pa.Table) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode()


def _csv(table: pa.Table, path: Path) -> None:
    pyarrow.csv.write_csv(table, path)


WRITERS: dict[str, Callable[[pa.Table, Path], Any]] = {
    "a.jsonl": lambda table, path: path.write_bytes(_lines(table)),
    "a.jsonl.gz": lambda table, path: path.write_bytes(gzip.compress(_lines(table))),
    "a.json": lambda table, path: path.write_text(json.dumps(table.to_pylist())),
    "a.csv": _csv,
    "a.parquet": lambda table, path: pq.write_table(table, path, row_group_size=100),
    "a.arrow": pyarrow.feather.write_feather,
    "a.orc": pyarrow.orc.write_table,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("skipped", [1, 2 * STRIDE - 1, 2 * STRIDE, 4 * STRIDE + 5])
def test_rows_after_those_left_out_are_compared(tmp_path: Path, name: str, skipped: int) -> None:
    path = tmp_path / name
    WRITERS[name](rows_of(0, ROWS), path)
    made = job_in(tmp_path, input={"path": str(path), "skip_rows": {str(path): skipped}})
    finish(made)

    verdict = verify(open_storage(str(tmp_path / "out")))

    assert (verdict.faults, verdict.notes) == ([], [])
    assert verdict.compared_rows == ROWS - skipped


@pytest.mark.parametrize("skipped", [0, 3 * STRIDE])
def test_a_file_of_lines_that_has_grown_since_has_a_verdict(tmp_path: Path, skipped: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(_lines(rows_of(0, ROWS)))
    skip = {"skip_rows": {str(path): skipped}} if skipped else {}
    finish(job_in(tmp_path, input={"path": str(path), **skip}))
    with path.open("ab") as file:
        file.write(_lines(rows_of(ROWS, ROWS + 40)))

    verdict = verify(open_storage(str(tmp_path / "out")))

    assert verdict.ok
    assert [note for note in verdict.notes if "changed since" in note]
