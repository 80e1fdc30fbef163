"""The input read once more, by other parsers than the run's, to reveal a fault of a reader.

No columns are built: each format compares the values in a file with those in the output.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.input.formats.protocol import format_module
from pipeline.input.formats.second_rows import SecondRows
from pipeline.input.shard import Shard


class SecondReading:
    """Reads the shards of an input, in order."""

    def __init__(
        self,
        shards: Sequence[Shard],
        names: Sequence[tuple[str, str]],
        cast: Iterable[str] = (),
    ) -> None:
        self._cast = frozenset(cast)
        self._shards = shards
        self._names = names
        self._shard = -1
        self._row = 0
        self._told: SecondRows | None = None

    def differs(self, shard: int, start: int, ours: pa.Table) -> tuple[int, str] | None:
        """The first row of the file and its column in which the output, whose first row is row
        ``start`` of the file, differs from the file. Raises OSError, ValueError."""
        told = self._told
        if told is None or shard != self._shard or start < self._row:
            one = self._shards[shard]
            told = self._told = format_module(one.format).open_second(one)
            told.cast = self._cast
            self._shard, self._row = shard, 0
        told.skip(start - self._row)
        self._row = start + ours.num_rows
        partition = dict(self._shards[shard].partition)
        for name, new in self._names:
            if name in partition and _all_text(ours.column(new)) - {partition[name]}:
                return start, new
        found = told.differs(ours, [pair for pair in self._names if pair[0] not in partition])
        return None if found is None else (start + found[0], found[1])


def _all_text(column: pa.ChunkedArray) -> set[str | None]:
    return {None if value is None else str(value) for value in pc.unique(column).to_pylist()}
