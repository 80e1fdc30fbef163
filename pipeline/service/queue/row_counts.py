"""A submitted job's row counts, read from its output when a driver of it ends."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import RackmillError
from pipeline.output.runs.status import read_status
from pipeline.storage.base import open_storage


@dataclass(frozen=True)
class RowCounts:
    """``rows``: of the whole input; ``rows_done``: committed ones, ``failed`` among them."""

    rows: int
    rows_done: int
    failed: int


def counted_at(output: str) -> RowCounts | None:
    """The counts; None if there is no output, or it cannot be read now."""
    try:
        status = read_status(open_storage(output, patience_seconds=0, faults=False))
    except (OSError, RackmillError):
        return None
    return RowCounts(status.rows, status.rows_done, status.failed)
