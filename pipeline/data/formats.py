"""What every input format offers: a quick scan of a file, and rows of it in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa


@dataclass(frozen=True)
class ScannedFile:
    """What planning needs to know of one file."""

    rows: int
    schema: pa.Schema
    boundaries: tuple[int, ...] = ()
    offsets: tuple[int, ...] = ()


@dataclass(frozen=True)
class Rows:
    """A stretch of input rows; ``invalid`` says what is wrong with single ones, by position."""

    table: pa.Table
    invalid: dict[int, str] = field(default_factory=dict)


class Reader(Protocol):
    """Reads one file front to back; going backwards costs a new start."""

    def read(self, start: int, stop: int) -> Rows:
        """Rows start..stop of the file."""

    def close(self) -> None: ...
