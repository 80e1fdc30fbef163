"""Reading units: one open reader per shard, kept while the units that follow use it."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from pipeline.data.csv_format import CsvReader
from pipeline.data.formats import Reader, Rows
from pipeline.data.jsonl_format import JsonlReader
from pipeline.data.parquet_format import ParquetReader
from pipeline.data.shards import Shard
from pipeline.data.units import Unit


class UnitReader:
    """Reads the rows of units; cheap when units of a shard come in order."""

    def __init__(self, shards: Sequence[Shard], schema: pa.Schema) -> None:
        self._shards = shards
        self._schema = schema
        self._open: tuple[int, Reader] | None = None

    def read(self, unit: Unit) -> Rows:
        """The unit's rows, all columns."""
        if unit.rows == 0:
            return Rows(self._schema.empty_table())
        if self._open is None or self._open[0] != unit.shard:
            self.close()
            self._open = unit.shard, self._reader(self._shards[unit.shard])
        return self._open[1].read(unit.start, unit.stop)

    def _reader(self, shard: Shard) -> Reader:
        if shard.format == "jsonl":
            return JsonlReader(shard.path, self._schema, shard.offsets)
        if shard.format == "csv":
            return CsvReader(shard.path, self._schema)
        return ParquetReader(shard.path)

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None
