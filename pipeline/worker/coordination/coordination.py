"""The coordinator and a worker, as each of them sees the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pipeline.dispatch.events import NoLease
from pipeline.input.units import Unit
from pipeline.output.commit.records import CommitRecord
from pipeline.output.rows.redo import Redone
from pipeline.rows.row_range import RowRange
from pipeline.worker.coordination.messages import GiveUpRows, LastWords, Lease, LeaseRows, Progress


class RowSource(Protocol):
    """Where a worker's rows wait, for those who may want them back."""

    @property
    def taken(self) -> int:
        """Rows that were handed on, to wait for the engine."""

    @property
    def flights(self) -> list[RowRange]:
        """Rows that the engine has not finished and may have before the next call: none as long as
        nothing was handed on."""

    def give_up(self, asked: GiveUpRows) -> int:
        """Drop rows that the engine has not begun. Returns the row (of the shard) before which
        those of ``asked.unit`` are kept."""

    @property
    def holding(self) -> list[Unit]:
        """What is leased and perhaps not committed: units, or what is left of them."""

    @property
    def lease_rows(self) -> LeaseRows:
        """How far the rows are that are leased and not committed."""

    def wind_up(self, seconds: float) -> None:
        """The run is stopping: hand on no more rows. Those handed on already may end within
        ``seconds`` from now."""


class Coordination(Protocol):
    """The coordinator, as a worker sees it."""

    def acquire(self) -> Lease | NoLease:
        """Units to work on, or why there are none."""

    def committed(self, records: Sequence[CommitRecord | Redone]) -> None:
        """These commit records exist, or rows in them were done again."""

    def listen(self, source: RowSource) -> None:
        """From now on ask ``source`` for rows that others shall do."""

    def heartbeat(self, progress: Progress) -> None:
        """The worker is alive, and this is how far it is."""

    def announce(self) -> None:
        """The engine is about to begin rows: report at once which these may be."""

    def engine_failed(self, said: LastWords) -> None:
        """The engine is gone."""

    def note(self, line: str) -> None:
        """Print this for whoever watches the run."""


def active_rows(source: RowSource | None, progress: Progress) -> int:
    """Rows that a worker has taken and not finished."""
    if source is None:
        return 0
    return max(0, source.taken - progress.rows - progress.given_up)
