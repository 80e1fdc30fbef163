"""JSON Lines as an input format."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import pyarrow as pa

from pipeline.input.changes.mark import Mark
from pipeline.input.formats.base import Reader
from pipeline.input.formats.jsonl import format as lines
from pipeline.input.formats.jsonl.second import SecondLines
from pipeline.input.formats.jsonl.types import Values
from pipeline.input.formats.line_marks import lines_still_there, mark_of_lines
from pipeline.input.formats.protocol import Looked
from pipeline.input.formats.second_rows import SecondRows
from pipeline.input.schema.join import CommonSchema
from pipeline.input.shard import Shard
from pipeline.job.job import Input
from pipeline.storage.transient_errors import PLAN_SECONDS, reading


def look(path: str, readable: str, source: Input) -> Looked:  # noqa: ARG001 -- says all itself
    return Looked(path, readable, lines.scan(readable))


def common_schema(files: Sequence[Looked]) -> CommonSchema:
    readable = {one.path: one.readable for one in files}

    def again(path: str) -> Values:
        return reading(path, partial(lines.look_again, readable[path]), PLAN_SECONDS)

    seen = [(one.path, cast(Values, one.scan.details)) for one in files]
    return CommonSchema(lines.common_schema(seen, again))


def open_reader(shard: Shard, schema: pa.Schema) -> Reader:
    return lines.JsonlReader(shard.readable, schema, shard.offsets, shard.readable_size)


def open_second(shard: Shard) -> SecondRows:
    return SecondLines(shard)


def mark_of(shard: Shard) -> Mark:
    return mark_of_lines(shard, b"\n", bytes.strip)  # blank lines are no rows


def rows_still_there(shard: Shard, rows: int, mark: Mark, quotes: str | None) -> int | None:  # noqa: ARG001
    return lines_still_there(shard, rows, mark, _ends_line)


def _ends_line(after: bytes) -> bool:
    return after[:1] in (b"", b"\n") or after in (b"\r", b"\r\n")
