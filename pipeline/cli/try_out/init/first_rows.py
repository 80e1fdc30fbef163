"""The first rows of data, before a job exists."""

from __future__ import annotations

import pyarrow as pa

from pipeline.input.reader import UnitReader
from pipeline.input.shards import discover
from pipeline.input.units import Unit
from pipeline.job.job import Input


def first_rows_of(path: str, rows: int) -> pa.Table:
    """At most ``rows`` rows of the data at ``path``, all columns. Raises UsageError, JobFailed."""
    files = discover(Input(path=path))
    reader = UnitReader(files.shards, files.schema)
    try:
        parts: list[pa.Table] = []
        for shard in files.shards:
            few = min(rows - sum(part.num_rows for part in parts), shard.rows)
            if few > 0:
                parts.append(reader.read(Unit("sample", shard.index, 0, few)).table)
        return pa.concat_tables(parts) if parts else files.schema.empty_table()
    finally:
        reader.close()
