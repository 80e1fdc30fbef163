"""The interface of every input format's code."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import pyarrow as pa

from pipeline.input.formats.base import Mark, Reader, ScannedFile
from pipeline.input.formats.second_rows import SecondRows
from pipeline.input.schema.join import CommonSchema
from pipeline.input.shard import Shard
from pipeline.job.job import Input
from pipeline.job.registries.input_formats import INPUT_FORMATS


@dataclass(frozen=True)
class Looked:
    """One file: its path, how it is converted before reading (see ``unpack``), the path from which
    it is then read, and what the scan found."""

    path: str
    kind: str
    readable: str
    scan: ScannedFile


class FormatModule(Protocol):
    """The interface of a format's module (see ``job.registries.input_formats``)."""

    def scan(self, path: str, readable: str, source: Input) -> ScannedFile:
        """Scan a file that is read from ``readable``. Raises UsageError; HalfWritten."""

    def common_schema(self, files: Sequence[Looked]) -> CommonSchema:
        """One schema that holds every value of all files exactly. Raises UsageError."""

    def open_reader(self, shard: Shard, schema: pa.Schema) -> Reader:
        """Reads the shard's rows into the common schema. Raises OSError, UsageError."""

    def open_second(self, shard: Shard) -> SecondRows:
        """Reads them in another way, without a parser that ``open_reader`` uses."""

    def mark_of(self, shard: Shard) -> Mark:
        """The mark of all rows of a file that may grow, of the bytes that hold them; an empty one
        if that is not supported. Raises OSError, UsageError."""

    def rows_still_there(
        self, shard: Shard, rows: int, mark: Mark, quotes: str | None
    ) -> int | None:
        """How many of the first ``rows`` rows, which ``mark`` identifies, are unchanged: all; all
        but the last, whose line was continued; or None if anything else changed. ``quotes``: the
        shard's earlier setting, if it may differ now. Raises as ``mark_of``."""


def format_module(name: str) -> FormatModule:
    """The code of the format of that name."""
    return cast(FormatModule, importlib.import_module(INPUT_FORMATS.get(name).module))


def mark_of(shard: Shard) -> Mark:
    """See ``FormatModule``. A file that is compressed or has to be converted has no mark."""
    return Mark() if shard.kind else format_module(shard.format).mark_of(shard)


def rows_still_there(shard: Shard, rows: int, mark: Mark, quotes: str | None = None) -> int | None:
    """See ``FormatModule``; None for a file without mark."""
    if shard.kind or not mark.whole:
        return None
    return format_module(shard.format).rows_still_there(shard, rows, mark, quotes)
