"""Where the records of CSV text begin and end: line breaks inside quotes do not count. Pure.

The rules are those of RFC 4180 and of Python's csv module: a quote opens a quoted cell only at the
beginning of a cell; in a quoted cell two quotes mean one; text after the closing quote belongs to
the cell. A record ends with LF, CR LF or CR. If quotes are letters, as in much TSV, a record is a
line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

BOM = b"\xef\xbb\xbf"
_QUOTE, _LF, _CR = b'"\n\r'
_WANTED = 1 << 20  # bytes of a block
_MOST = 256 << 20  # bytes of a record: it is held in memory
_LONG = 1 << 20  # bytes that any cell may have
_LOOKED_AT = 1 << 20  # bytes after an open quote
# records in a row: in text, so many lines rarely have the same number of delimiters above zero
_ALIKE = 8


@dataclass(frozen=True)
class Dialect:
    """The delimiter of cells, and what quotes mean: they surround cells, or are letters (``quotes``
    is false). ``strict``: that they surround cells is a guess, and only correct while each quote is
    at the edge of a cell, or doubled in a quoted one, and is closed in its line."""

    delimiter: str = ","
    quotes: bool = True
    strict: bool = False

    @classmethod
    def of(cls, delimiter: str, quotes: str) -> Dialect:
        """From the values that a ``Shard`` keeps."""
        return cls(delimiter or ",", quotes != "none")

    @property
    def by_lines(self) -> bool:
        return self.strict or not self.quotes


class OpenQuote(ValueError):
    """A quote that is never closed. ``line``: where its record begins; ``rest``: of the file, from
    there on."""

    def __init__(self, line: int, rest: bytes) -> None:
        super().__init__(f"the record that begins in line {line} has a quote never closed")
        self.line = line
        self.rest = rest


@dataclass(frozen=True)
class Records:
    """Some whole records. ``starts``: offset of each within ``content``. ``offset``: of ``content``
    in the file; ``line``: of its first line there, from 1.

    Empty lines are no records."""

    content: bytes
    starts: np.ndarray
    offset: int
    line: int

    @property
    def has_end(self) -> bool:
        """Whether its last record has a line end; if not, it is the file's last and may go on."""
        return self.content.endswith((b"\n", b"\r"))

    @property
    def longest(self) -> int:
        """Bytes of its longest record."""
        return int(np.diff(self.starts, append=len(self.content)).max(initial=0))

    def line_of(self, record: int) -> int:
        """The line of the file in which a record begins."""
        return self.line_at(int(self.starts[record]))

    def line_at(self, byte: int) -> int:
        """The line of the file that contains a byte of ``content``."""
        return self.line + _lines(self.content[:byte])


def blocks(pieces: Iterable[bytes], dialect: Dialect) -> Iterator[Records]:
    """Cut a file, given in pieces of any size, into blocks of about one MiB, larger if a record is
    longer; without a byte order mark. Raises OpenQuote; ValueError, with the line, if a record is
    far too long."""
    waiting = bytearray()
    offset, line, wanted = 0, 1, _WANTED

    def cut(last: bool) -> Records | None:
        nonlocal offset, line
        content = bytes(waiting)
        ends = record_ends(content, dialect, last=last)
        if not len(ends):
            return None
        whole = content[: ends[-1]]
        block = Records(whole, _starts(whole, ends), offset, line)
        offset += len(whole)
        line += _lines(whole)
        del waiting[: len(whole)]
        return block

    for piece in pieces:
        waiting += piece
        if not offset and waiting.startswith(BOM):
            del waiting[: len(BOM)]
            offset = len(BOM)
        if len(waiting) < wanted:
            continue
        block = cut(last=False)
        # if no record ended, look again only after the data has doubled
        wanted = _WANTED if block else 2 * len(waiting)
        if block:
            yield block
        elif len(waiting) > _MOST:
            raise ValueError(
                f"the record that begins in line {line} has more than {_MOST >> 20} MiB, or a "
                "quote never closed"
            )
    if waiting:
        if block := cut(last=True):
            yield block
        if waiting:
            raise OpenQuote(line, bytes(waiting))


def is_stray(quote: OpenQuote, dialect: Dialect, cells: int, longest: int) -> bool:
    """Whether an open quote is a mistake rather than that of the file's last record, cut off during
    writing: that record would be longer than any other; or the lines after the quote are records of
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


def record_ends(content: bytes, dialect: Dialect, *, last: bool) -> np.ndarray:
    """The offsets after the end of each record in ``content``, which begins with a record.
    ``last``: nothing follows, so its end is also the end of a record, if no quote is open."""
    text = np.frombuffer(content, np.uint8)
    ends = _line_ends(text, last)
    quotes = np.flatnonzero(text == _QUOTE) if not dialect.by_lines else np.array([], np.int64)
    if len(quotes):
        delimiter = dialect.delimiter.encode()
        if len(_misplaced(text, quotes, delimiter[0])):
            return _one_by_one(content, delimiter, last)
        ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
    if last and len(quotes) % 2 == 0 and len(content) and (not len(ends) or ends[-1] < len(text)):
        ends = np.append(ends, len(text))
    return ends


def irregular_line(content: bytes, delimiter: bytes) -> int | None:
    """The first byte of the first line with an irregular quote (neither around a whole cell nor
    doubled inside a quoted one), or with a quote left open; None if there is none."""
    text = np.frombuffer(content, np.uint8)
    quotes = np.flatnonzero(text == _QUOTE)
    if not len(quotes):
        return None
    ends = np.append(_line_ends(text, last=True), len(text))
    odd = np.searchsorted(quotes, ends) % 2
    bad = _misplaced(text, quotes, delimiter[0])
    if not odd.any() and not len(bad):
        return None
    # before the first line with an odd number, every second one opens a cell, if they are regular
    numbers = [*np.flatnonzero(odd)[:1]]
    if len(bad):
        numbers.append(np.searchsorted(ends, bad.min(), side="right"))
    number = int(min(numbers))
    return int(ends[number - 1]) if number else 0


def cells_in(record: bytes, dialect: Dialect) -> int:
    """The number of cells in a whole record."""
    delimiter = dialect.delimiter.encode()
    if not dialect.quotes or b'"' not in record:
        return record.count(delimiter) + 1
    cell = re.compile(rb"%s(%s|)" % (_cell(re.escape(delimiter)), re.escape(delimiter)))
    at, cells, goes_on = 0, 0, True
    while goes_on and (found := cell.match(record, at)):
        at, cells, goes_on = found.end(), cells + 1, bool(found[1])
    return cells


def _cell(d: bytes) -> bytes:
    """A regular expression for a cell. ``d``: the delimiter's expression."""
    return rb'(?:"(?:[^"]|"")*+"[^%s\r\n]*+|[^"%s\r\n][^%s\r\n]*+|)' % (d, d, d)


def _line_ends(text: np.ndarray, last: bool) -> np.ndarray:
    """The offsets after every LF, and after every CR that is not followed by LF."""
    feeds = np.flatnonzero(text == _LF)
    returns = np.flatnonzero(text == _CR)
    if len(returns):
        follows = np.append(text[1:], _CR if last else _LF)  # a CR at the end: an LF may follow
        alone = returns[follows[returns] != _LF]
        feeds = np.union1d(feeds, alone)
    return feeds + 1


def _misplaced(text: np.ndarray, quotes: np.ndarray, delimiter: int) -> np.ndarray:
    """Which quotes are neither around a whole cell nor doubled inside a quoted one, if each quote
    with an even number of quotes before it opens a cell or is the second of two."""
    edges = np.array([delimiter, _LF, _CR, _QUOTE], np.uint8)
    opening, closing = quotes[0::2], quotes[1::2]
    opening, closing = opening[opening > 0], closing[closing + 1 < len(text)]
    odd_before = opening[~np.isin(text[opening - 1], edges)]
    odd_after = closing[~np.isin(text[closing + 1], edges)]
    return np.concatenate([odd_before, odd_after])


def _one_by_one(content: bytes, delimiter: bytes, last: bool) -> np.ndarray:
    """The same for text with quotes in unusual places, much more slowly."""
    d = re.escape(delimiter)
    cell = _cell(d)
    end = rb"(?:\r\n|\n|\r(?!\Z)|\r\Z|\Z)" if last else rb"(?:\r\n|\n|\r(?!\Z))"
    record = re.compile(rb"%s(?:%s%s)*+%s" % (cell, d, cell, end))
    ends: list[int] = []
    at = 0
    while at < len(content) and (found := record.match(content, at)) and found.end() > at:
        at = found.end()
        ends.append(at)
    return np.array(ends, np.int64)


def _starts(content: bytes, ends: np.ndarray) -> np.ndarray:
    """Starts of the records, without empty lines."""
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    text = np.frombuffer(content, np.uint8)
    empty = np.isin(text[starts], [_LF, _CR])
    return starts[~empty]


def _lines(content: bytes) -> int:
    feeds = content.count(b"\n")
    return feeds + content.count(b"\r") - content.count(b"\r\n")
