"""Where the records of CSV text begin and end: line breaks inside of quotes end none. Pure.

The rules are those of RFC 4180 and of Python's csv module: a quote opens a quoted cell where a cell
begins, and nowhere else; in a quoted cell two quotes are one; what follows the closing one belongs
to the cell. A record ends with LF, CR LF or CR.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

_QUOTE, _LF, _CR = b'"\n\r'
_WANTED = 1 << 20  # bytes of a block


@dataclass(frozen=True)
class Block:
    """Some whole records. ``starts``: of each, the byte within ``content``; ``end``: of the last
    one. ``offset``: of ``content`` in the file; ``line``: of its first line there, from 1.

    Empty lines are no records."""

    content: bytes
    starts: np.ndarray
    offset: int
    line: int

    def line_of(self, record: int) -> int:
        """In which line of the file a record begins."""
        return self.line + _lines(self.content[: self.starts[record]])


def blocks(pieces: Iterable[bytes], delimiter: bytes = b",") -> Iterator[Block]:
    """Cut a file that comes in pieces of any size into blocks of about a mebibyte, more where a
    record is longer. Raises ValueError, with the line, for a quote that is never closed."""
    waiting = bytearray()
    offset, line, wanted = 0, 1, _WANTED

    def cut(last: bool) -> Block | None:
        nonlocal offset, line
        content = bytes(waiting)
        ends = record_ends(content, delimiter, last=last)
        if not len(ends):
            return None
        whole = content[: ends[-1]]
        block = Block(whole, _starts(whole, ends), offset, line)
        offset += len(whole)
        line += _lines(whole)
        del waiting[: len(whole)]
        return block

    for piece in pieces:
        waiting += piece
        if len(waiting) < wanted:
            continue
        block = cut(last=False)
        # a record that is longer than what was looked at is looked at again when it has doubled
        wanted = _WANTED if block else 2 * len(waiting)
        if block:
            yield block
    if waiting:
        if block := cut(last=True):
            yield block
        if waiting:
            raise ValueError(f"the record that begins in line {line} has a quote never closed")


def record_ends(content: bytes, delimiter: bytes, *, last: bool) -> np.ndarray:
    """The bytes after the end of each record in ``content``, which begins with one. ``last``:
    nothing comes after it, so its end is one too, if no quote is open."""
    text = np.frombuffer(content, np.uint8)
    ends = _line_ends(text, last)
    quotes = np.flatnonzero(text == _QUOTE)
    if len(quotes):
        if not _regular(text, quotes, delimiter[0]):
            return _one_by_one(content, delimiter, last)
        ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
    if last and len(quotes) % 2 == 0 and len(content) and (not len(ends) or ends[-1] < len(text)):
        ends = np.append(ends, len(text))
    return ends


def _line_ends(text: np.ndarray, last: bool) -> np.ndarray:
    """After every LF, and every CR that no LF follows."""
    feeds = np.flatnonzero(text == _LF)
    returns = np.flatnonzero(text == _CR)
    if len(returns):
        follows = np.append(text[1:], _CR if last else _LF)  # a CR at the end: who knows
        alone = returns[follows[returns] != _LF]
        feeds = np.union1d(feeds, alone)
    return feeds + 1


def _regular(text: np.ndarray, quotes: np.ndarray, delimiter: int) -> bool:
    """Whether quotes stand only around whole cells and, doubled, inside of quoted ones: then one
    before which there is an even number of others opens a cell or is the second of two."""
    edges = np.array([delimiter, _LF, _CR, _QUOTE], np.uint8)
    opening, closing = quotes[0::2], quotes[1::2]
    before = text[opening[opening > 0] - 1]
    after = text[closing[closing + 1 < len(text)] + 1]
    return bool(np.isin(before, edges).all() and np.isin(after, edges).all())


def _one_by_one(content: bytes, delimiter: bytes, last: bool) -> np.ndarray:
    """The same for text with quotes in odd places, much more slowly."""
    d = re.escape(delimiter)
    cell = rb'(?:"(?:[^"]|"")*+"[^%s\r\n]*+|[^"%s\r\n][^%s\r\n]*+|)' % (d, d, d)
    end = rb"(?:\r\n|\n|\r(?!\Z)|\r\Z|\Z)" if last else rb"(?:\r\n|\n|\r(?!\Z))"
    record = re.compile(rb"%s(?:%s%s)*+%s" % (cell, d, cell, end))
    ends: list[int] = []
    at = 0
    while at < len(content) and (found := record.match(content, at)) and found.end() > at:
        at = found.end()
        ends.append(at)
    return np.array(ends, np.int64)


def _starts(content: bytes, ends: np.ndarray) -> np.ndarray:
    """Of the records that are more than an empty line."""
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    text = np.frombuffer(content, np.uint8)
    empty = np.isin(text[starts], [_LF, _CR])
    return starts[~empty]


def _lines(content: bytes) -> int:
    feeds = content.count(b"\n")
    return feeds + content.count(b"\r") - content.count(b"\r\n")
