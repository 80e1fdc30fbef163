"""Reading units: one open reader per shard, kept while the next units use it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import pyarrow as pa

from pipeline.errors import JobFailed, RackmillError
from pipeline.input.formats.base import Reader, Rows
from pipeline.input.formats.protocol import format_module
from pipeline.input.schema.partitions import with_partition
from pipeline.input.shard import Shard
from pipeline.input.units import Unit
from pipeline.storage.transient_errors import passes, reading


class _Damaged(ValueError):
    """A file has less than it had, or announced, at the scan."""


# pyarrow's errors for pages that cannot be decoded, and Python's for invalid text
_DAMAGED = (pa.ArrowException, ValueError, OverflowError, MemoryError)


def _is_damage(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno is None  # pyarrow's form for bytes that cannot be decompressed
    return isinstance(error, _DAMAGED)


def _damaged(path: str, unit: Unit, error: BaseException) -> JobFailed:
    why = (str(error).splitlines() or [type(error).__name__])[0]
    return JobFailed(
        f"{path} cannot be read in rows {unit.start} to {unit.stop}: {why}",
        "the file is damaged, or was changed: write it again, or leave it out",
    )


class UnitReader:
    """Reads the rows of units; fast when a shard's units come in order."""

    def __init__(self, shards: Sequence[Shard], schema: pa.Schema) -> None:
        self._shards = shards
        self._schema = schema
        self._open: tuple[int, Reader] | None = None

    def read(self, unit: Unit) -> Rows:
        """The unit's rows, all columns. Waits for transient errors to pass; raises StorageFailed,
        and JobFailed if the file is damaged."""
        if unit.rows == 0:
            return Rows(self._schema.empty_table())
        return reading(self._shards[unit.shard].path, lambda: self._read(unit))

    def _read(self, unit: Unit) -> Rows:
        try:
            if self._open is None or self._open[0] != unit.shard:
                self.close()
                shard = self._shards[unit.shard]
                reader = format_module(shard.format).open_reader(shard, self._schema)
                self._open = unit.shard, reader
            rows = self._open[1].read(unit.start, unit.stop)
            if rows.table.num_rows != unit.rows:
                raise _Damaged(f"it ends after {unit.start + rows.table.num_rows} rows")
            partition = self._shards[unit.shard].partition
            if partition:
                rows = replace(rows, table=with_partition(rows.table, partition, self._schema))
            return rows
        except Exception as e:
            with suppress(Exception):  # after an error the reader's state is unknown
                self.close()
            self._open = None
            if _is_damage(e) and not passes(e) and not isinstance(e, RackmillError):
                raise _damaged(self._shards[unit.shard].path, unit, e) from e
            raise

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None
