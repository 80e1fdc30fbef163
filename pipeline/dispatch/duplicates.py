"""Identical requests are computed once: which row is the first of its kind, who waits for it.

Pure bookkeeping over keys that say exactly what is asked (see ``Answers.key``). The
key of one row is computed, rows with the same key wait for its result, and the last results are
remembered for rows that come later.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Row = TypeVar("Row")
Result = TypeVar("Result")


class Duplicates(Generic[Row, Result]):
    """Rows by key. Ask ``known``, then ``first``; tell ``finished``, ``failed`` or ``late``."""

    def __init__(self, size: Callable[[Result], int], memory_bytes: int = 64 << 20) -> None:
        """``size``: bytes of a result; the results used last are kept, ``memory_bytes`` of them."""
        self._size = size
        self._memory = memory_bytes
        self._followers: dict[bytes, list[Row]] = {}  # of the keys that are being computed
        self._results: OrderedDict[bytes, Result] = OrderedDict()  # the one used last is last
        self.held_bytes = 0
        self.waiting = 0  # rows

    def known(self, key: bytes) -> Result | None:
        """The result of an earlier row with ``key``, if it is remembered."""
        result = self._results.get(key)
        if result is not None:
            self._results.move_to_end(key)
        return result

    def first(self, key: bytes, row: Row) -> bool:
        """Whether ``row`` is to be computed; else it waits for the one that is computed now."""
        followers = self._followers.get(key)
        if followers is None:
            self._followers[key] = []
            return True
        followers.append(row)
        self.waiting += 1
        return False

    def finished(self, key: bytes, result: Result) -> list[Row]:
        """The first row has its result: the rows that waited for it, all answered by it."""
        self._remember(key, result)
        return self._released(key)

    def failed(self, key: bytes) -> Row | None:
        """The first row failed in a way that says nothing about the others.

        Returns the row to compute instead, now the first; None when none waits.
        """
        followers = self._followers[key]
        if followers:
            self.waiting -= 1
            return followers.pop(0)
        del self._followers[key]
        return None

    def late(self, key: bytes) -> list[Row]:
        """The first row took too long, which the others may or may not: each is to be computed by
        itself, and all at once, since together they take no longer than one."""
        return self._released(key)

    def _released(self, key: bytes) -> list[Row]:
        followers = self._followers.pop(key)
        self.waiting -= len(followers)
        return followers

    def _remember(self, key: bytes, result: Result) -> None:
        size = self._size(result)
        if size > self._memory:
            return
        self._results[key] = result
        self.held_bytes += size
        while self.held_bytes > self._memory:
            _, oldest = self._results.popitem(last=False)
            self.held_bytes -= self._size(oldest)
