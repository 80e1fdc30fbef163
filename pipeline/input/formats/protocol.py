"""The interface of every input format's code."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import pyarrow as pa

from pipeline.input.changes.mark import Mark
from pipeline.input.formats.base import Reader, ScannedFile
from pipeline.input.formats.second_rows import SecondRows
from pipeline.input.schema.join import CommonSchema
from pipeline.input.shard import Shard
from pipeline.job.job import Input
from pipeline.job.registries.input_formats import INPUT_FORMATS


@dataclass(frozen=True)
class Looked:
    """One file: its path, the path from which it is read, and what the scan found."""

    path: str
    readable: str
    scan: ScannedFile


class FormatModule(Protocol):
    """The interface of a format's module (see ``job.registries.input_formats``)."""

    def look(self, path: str, readable: str, source: Input) -> Looked:
        """Scan a file that is read from ``readable``. Raises UsageError; HalfWritten."""

    def common_schema(self, files: Sequence[Looked]) -> CommonSchema:
        """One schema that holds every value of all files exactly. Raises UsageError."""

    def open_reader(self, shard: Shard, schema: pa.Schema) -> Reader:
        """Reads the shard's rows into the common schema. Raises OSError, UsageError."""

    def open_second(self, shard: Shard) -> SecondRows:
        """Reads them in another way, without a parser that ``open_reader`` uses."""

    def mark_of(self, shard: Shard) -> Mark:
        """The mark of all rows of a file that may grow; an empty one if that is not supported."""

    def rows_still_there(
        self, shard: Shard, rows: int, mark: Mark, quotes: str | None
    ) -> int | None:
        """See ``input.changes.grown``."""


def format_module(name: str) -> FormatModule:
    """The code of the format of that name."""
    return cast(FormatModule, importlib.import_module(INPUT_FORMATS.get(name).module))
