"""Parquet read a second time, by whole row groups; Arrow's and ORC's own files at once."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.orc as orc

from pipeline.input.cast_check import says_cast
from pipeline.input.formats.base import open_parquet, open_raw
from pipeline.input.plain import first_difference, same_value
from pipeline.input.shard import Shard


class SecondGroups:
    """Row groups, each read whole."""

    cast: frozenset[str] = frozenset()

    def __init__(self, shard: Shard) -> None:
        self._file = open_parquet(shard.path)
        self._groups = self._file.num_row_groups
        self._next = 0  # row group
        self._left = self._file.schema_arrow.empty_table()  # of the group before it

    def skip(self, rows: int) -> None:
        while rows > 0:
            if not self._left.num_rows and self._next < self._groups:
                size = self._file.metadata.row_group(self._next).num_rows
                if rows >= size:
                    self._next, rows = self._next + 1, rows - size
                    continue
            rows -= self._some(rows).num_rows

    def _some(self, rows: int) -> pa.Table:
        """The next rows: at most so many, of one group."""
        if not self._left.num_rows:
            if self._next >= self._groups:
                raise ValueError("it has fewer rows than the output")
            self._left = self._file.read_row_group(self._next)
            self._next += 1
        taken = self._left.slice(0, rows)
        self._left = self._left.slice(rows)
        return taken

    def _take(self, rows: int) -> pa.Table:
        parts: list[pa.Table] = []
        while rows > 0:
            parts.append(self._some(rows))
            rows -= parts[-1].num_rows
        return pa.concat_tables(parts) if parts else self._left.slice(0, 0)

    def differs(self, ours: pa.Table, names: Sequence[tuple[str, str]]) -> tuple[int, str] | None:
        theirs = self._take(ours.num_rows)
        found: list[tuple[int, str]] = []
        for old, new in names:
            if old not in theirs.column_names:
                theirs = theirs.append_column(old, pa.nulls(theirs.num_rows))
            same = says_cast if old in self.cast else same_value
            row = first_difference(ours.column(new), theirs.column(old), same)
            found += [(row, new)] if row is not None else []
        return min(found, default=None)


class SecondWhole(SecondGroups):
    """An Arrow or ORC file, read whole."""

    def __init__(self, shard: Shard) -> None:
        with open_raw(shard.path) as file:
            content = file.read()
        self._next = self._groups = 0
        if shard.kind == "orc":
            self._left = orc.read_table(pa.BufferReader(content))
        else:
            try:
                self._left = feather.read_table(pa.BufferReader(content))
            except pa.ArrowInvalid:
                self._left = pa.ipc.open_stream(content).read_all()
