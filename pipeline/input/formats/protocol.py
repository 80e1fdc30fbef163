"""What the code of each format of input files offers."""

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
    """One file: its path, the path under which it is read, and what was found in it."""

    path: str
    readable: str
    scan: ScannedFile


class FormatModule(Protocol):
    """What the module of a format offers (``job.registries.input_formats`` names it)."""

    def look(self, path: str, readable: str, source: Input) -> Looked:
        """Look into a file that is read under ``readable``. Raises UsageError; HalfWritten."""

    def common_schema(self, files: Sequence[Looked]) -> CommonSchema:
        """One schema that holds every value of all files as it is. Raises UsageError."""

    def open_reader(self, shard: Shard, schema: pa.Schema) -> Reader:
        """Reads the shard's rows into the common schema. Raises OSError, UsageError."""

    def open_second(self, shard: Shard) -> SecondRows:
        """Reads them by another way, sharing no parser with ``open_reader``."""

    def mark_of(self, shard: Shard) -> Mark:
        """Of all rows of a file that may grow; an empty one where none can be known again."""

    def rows_still_there(
        self, shard: Shard, rows: int, mark: Mark, quotes: str | None
    ) -> int | None:
        """See ``input.changes.grown``."""


def format_module(name: str) -> FormatModule:
    """The code of the format of that name."""
    return cast(FormatModule, importlib.import_module(INPUT_FORMATS.get(name).module))
