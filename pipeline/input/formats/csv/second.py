"""CSV read a second time: split by a regular expression, with each cell compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pipeline.input.formats.base import pieces
from pipeline.input.formats.csv.records import Dialect, blocks
from pipeline.input.formats.second_rows import RowByRow, text_of
from pipeline.input.shard import Shard

_NO_NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}  # as JSON writes them


class SecondCells(RowByRow):
    def __init__(self, shard: Shard) -> None:
        rows = _records(shard)
        names = [text for text, _ in next(rows, [])]
        self._places = {name: place for place, name in enumerate(names)}
        super().__init__(rows)

    def _alike(self, value: Any, told: Any, name: str) -> bool:
        text, quoted = self._cell(told, name)
        if value is None or not text:
            return (value is None) == (not quoted and not text) and (value or "") == text
        if isinstance(value, bool):
            return text == str(value).lower()
        if isinstance(value, float):
            return text == _NO_NUMBERS.get(repr(value), repr(value))
        return text == str(value)

    def _says(self, told: Any, name: str) -> Any:
        text, quoted = self._cell(told, name)
        return text if text or quoted else None

    def _cell(self, told: Any, name: str) -> tuple[str, bool]:
        place = self._places.get(name)
        found: tuple[str, bool] = ("", False) if place is None else told[place]
        return found


def _records(shard: Shard) -> Iterator[list[tuple[str, bool]]]:
    """The cells of each record: their text, and whether they were quoted."""
    dialect = Dialect.of(shard.delimiter, shard.quotes)
    cell_of = _cell(dialect)
    with text_of(shard) as file:
        for block in blocks(pieces(file), dialect):
            text = block.content.decode()
            at, cells = 0, list[tuple[str, bool]]()
            while at < len(text):
                cell = cell_of.match(text, at)
                assert cell is not None  # it matches anything
                inside, rest, plain, end = cell.groups()
                cells.append(
                    (plain, False) if inside is None else (inside.replace('""', '"') + rest, True)
                )
                at = cell.end()
                if end != dialect.delimiter:
                    if cells != [("", False)]:
                        yield cells
                    cells = []
            if cells:  # the file ends with a delimiter
                yield [*cells, ("", False)]


def _cell(dialect: Dialect) -> re.Pattern[str]:
    delimiter = re.escape(dialect.delimiter)
    other = rf"[^{delimiter}\r\n]*+"
    end = rf"({delimiter}|\r\n|\n|\r|\Z)"
    quote = '"' if dialect.quotes else r"(?!)"  # it never matches
    return re.compile(rf'(?:{quote}((?:[^"]|"")*+)"({other})|({other})){end}')
