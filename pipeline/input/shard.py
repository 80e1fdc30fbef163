"""One input file, as planning and reading use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.input.formats.unpack import readable


@dataclass(frozen=True)
class Shard:
    """One input file. ``size`` in bytes; ``version`` changes when the content may have changed.

    ``stamp``: see ``find.stamp_of``; ``content``: the SHA-256 of its bytes, if known: it identifies
    a file that was only touched. Of its ``rows``, those before ``first`` are left out. ``name``:
    see ``find.name_of_file``; its rows' seeds depend on it.
    """

    index: int
    path: str
    format: str
    size: int
    version: str
    rows: int
    boundaries: tuple[int, ...] = ()  # rows at which a row group starts
    offsets: tuple[int, ...] = ()  # text: byte offset of every ``formats.STRIDE``-th row
    layout: str = ""  # Parquet: identifies how the rows are grouped
    known_as: str = ""  # the path under which the output folder knows it, if different
    first: int = 0
    partition: tuple[tuple[str, str | None], ...] = ()  # columns given by the names of its folders
    kind: str = ""  # how it is converted before reading (see ``unpack``)
    stamp: str = ""
    content: str = ""
    last_apart: bool = False  # its last row is a separate unit: its line may be continued
    delimiter: str = ""  # CSV: the delimiter, if not a comma
    quotes: str = ""  # CSV: "none" if it has quotes and they are letters
    taken_back: int = 0  # rows at its end that are no longer part of the output
    name: str = ""

    @property
    def readable(self) -> str:
        """The path under which this machine can read it. Raises OSError, UsageError."""
        return readable(self.path, self.kind, self.size, self.stamp or self.version)

    @property
    def readable_size(self) -> int | None:
        """Bytes of it to read; None for a converted copy, which is never appended to."""
        return None if self.kind else self.size

    @property
    def used_rows(self) -> int:
        """Rows from ``first`` on, without those that were taken back."""
        return self.rows - self.first - self.taken_back

    @property
    def identity(self) -> dict[str, Any]:
        """The properties of the shard that decide the job's rows."""
        facts = {"size": self.size, "version": self.version, "rows": self.rows}
        layout = {"layout": self.layout} if self.layout else {}
        first = {"first": self.first} if self.first else {}
        partition = {"partition": dict(self.partition)} if self.partition else {}
        kind = {"kind": self.kind} if self.kind else {}
        dialect = {"delimiter": self.delimiter, "quotes": self.quotes}
        told = {name: value for name, value in dialect.items() if value}
        path = {"path": self.known_as or self.path}
        return {**path, **facts, **layout, **first, **partition, **kind, **told}
