"""Parquet as an input format."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from pipeline.input.changes.mark import Mark
from pipeline.input.formats.base import Reader
from pipeline.input.formats.parquet import row_groups
from pipeline.input.formats.parquet.format import ParquetReader, scan
from pipeline.input.formats.parquet.row_groups import mark_of as mark_of
from pipeline.input.formats.parquet.second import SecondGroups, SecondWhole
from pipeline.input.formats.protocol import Looked
from pipeline.input.formats.second_rows import SecondRows
from pipeline.input.schema.join import CommonSchema, join
from pipeline.input.shard import Shard
from pipeline.job.job import Input


def look(path: str, readable: str, source: Input) -> Looked:  # noqa: ARG001 -- says all itself
    return Looked(path, readable, scan(readable))


def common_schema(files: Sequence[Looked]) -> CommonSchema:
    return join([(one.path, one.scan.schema) for one in files])


def open_reader(shard: Shard, schema: pa.Schema) -> Reader:
    return ParquetReader(shard.readable, schema)


def open_second(shard: Shard) -> SecondRows:
    return SecondWhole(shard) if shard.kind else SecondGroups(shard)


def rows_still_there(shard: Shard, rows: int, mark: Mark, quotes: str | None) -> int | None:  # noqa: ARG001
    return row_groups.rows_still_there(shard, rows, mark)
