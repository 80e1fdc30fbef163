"""A quote that is open at the end of a CSV file: either its cell is still being written, or the
quote is a mistake. Pure."""

from __future__ import annotations

from itertools import pairwise

from pipeline.input.formats.csv.records import Dialect, OpenQuote, cells_in, record_ends

_LONG = 1 << 20  # bytes that any cell may have
_LOOKED_AT = 1 << 20  # bytes
# records in a row: in text, so many lines rarely have the same number of delimiters above zero
_ALIKE = 8


def is_stray(quote: OpenQuote, dialect: Dialect, cells: int, longest: int) -> bool:
    """Whether it is unlikely to be the quote of the file's last record, cut off during writing:
    that record would be longer than any other; or the lines after the quote are records of
    ``cells`` cells by themselves. ``longest``: bytes of the longest record before."""
    if len(quote.rest) > max(_LONG, longest):
        return True
    head = quote.rest[:_LOOKED_AT]
    first, *others = head.splitlines(keepends=True)
    cells = cells or first.count(dialect.delimiter.encode()) + 1  # it is the header
    after = b"".join(others)
    ends = [0, *record_ends(after, dialect, last=False)[:_ALIKE]]
    records = [after[start:end] for start, end in pairwise(ends)]
    alike = all(cells_in(record, dialect) == cells for record in records)
    return cells > 1 and len(records) == _ALIKE and alike
