"""The first rows without an answer, found by the commit records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from pipeline.output.commit.records import CommitRecord
from pipeline.output.dataset import Dataset
from pipeline.output.manifest import Manifest


@dataclass(frozen=True)
class FailedRow:
    """``file``: of the input; ``row``: in that file, counted from 0."""

    file: str
    row: int
    type: str
    message: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def first_failed(dataset: Dataset, manifest: Manifest, most: int) -> list[FailedRow]:
    """The first ``most`` error rows in input order. Reads only files whose records count errors,
    and no more than needed. Raises StorageFailed, JobFailed."""
    return list(islice(_failed(dataset, manifest), most))


def _failed(dataset: Dataset, manifest: Manifest) -> Iterator[FailedRow]:
    commits = dataset.state().commits.values()
    for record in sorted((r for r in commits if r.tally.errors), key=_place):
        entry = manifest.content.shards[record.row_range.shard]
        errors = dataset.read_rows(record)["error"].to_pylist()
        for number, error in enumerate(errors):
            if error is not None:
                row = record.row_range.start + number // manifest.rows_of_one
                yield FailedRow(entry.called, row, error["type"], error["message"])


def _place(record: CommitRecord) -> tuple[int, int]:
    return record.row_range.shard, record.row_range.start
