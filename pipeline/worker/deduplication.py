"""Between the feeder and the engine: rows whose answer is there, or on its way, are not computed.

A row's key is looked for in this order: among the last results of this worker, among the rows it
works on, among the answers that all workers have kept (read by a thread of its own, so that the
engine never waits for a disk). Only a row that is in none of them is computed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, NamedTuple, TypeVar

from pipeline.errors import RowErrorType
from pipeline.output.columns.results import RowResult
from pipeline.prompt.answers import Answers
from pipeline.worker.answer_cache.lookup import AnswerLookup
from pipeline.worker.open_unit import ReadyRow

Row = TypeVar("Row")
Result = TypeVar("Result")
_MEMORY_BYTES = 64 << 20  # of results
_OVERHEAD_BYTES = 600  # of one result, beside its text and its scores
_ASKED_AT_MOST = 64  # rows; beyond, computing is faster than a slow disk
_FOLLOWERS_AT_MOST = 4096  # rows; an engine has a few hundred, of which each may hold up a unit


class SingleFlight(Generic[Row, Result]):
    """Rows by a key that says exactly what is asked. One of them is computed, those with the same
    key wait for its result, and the last results are remembered for rows that come later.

    Ask ``known``, then ``first``; tell ``finished``, ``failed`` or ``late``."""

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


class Compute(NamedTuple):
    """This row is to be computed."""

    row: ReadyRow


class Finish(NamedTuple):
    """This is the row's result."""

    row: ReadyRow
    result: RowResult


Decision = Compute | Finish


class Deduplication:
    """Rows in; out comes, in the order in which it is to be done, which of them are to be computed
    and which have their result. What is neither yet comes out of a later call.

    Called from the engine's thread only.
    """

    def __init__(
        self, answers: Answers, *, enabled: bool = True, stored: AnswerLookup | None = None
    ) -> None:
        """``enabled`` False: every row is computed. ``stored``: answers of other workers."""
        self._answers = answers
        self._enabled = enabled
        self._stored = stored
        self._same: SingleFlight[ReadyRow, RowResult] = SingleFlight(_bytes, _MEMORY_BYTES)
        self._keys: dict[int, bytes] = {}  # by id() of the rows that are the first of their kind
        self._asked: dict[bytes, ReadyRow] = {}  # of the store

    @property
    def waiting(self) -> bool:
        """Whether rows wait for the store: ``poll`` will bring them."""
        return bool(self._asked)

    @property
    def room(self) -> int:
        """How many more rows may be taken. Those that wait for the answer of another hold memory,
        and units open, for as long as that one takes."""
        return max(0, _FOLLOWERS_AT_MOST - self._same.waiting)

    def take(self, row: ReadyRow) -> list[Decision]:
        """A new row: finished at once, computed, or answered later together with another."""
        key = self._answers.key(row.prompt) if self._enabled else None
        if key is None:
            return [Compute(row)]
        known = self._same.known(key)
        if known is not None:
            return [Finish(row, replace(known, duplicate=True))]
        if not self._same.first(key, row):
            return []
        self._keys[id(row)] = key
        if (
            self._stored is not None
            and len(self._asked) < _ASKED_AT_MOST
            and self._stored.may_have(key)
        ):
            self._asked[key] = row
            self._stored.ask(key)
            return []
        return [Compute(row)]

    def finished(self, row: ReadyRow, result: RowResult) -> list[Decision]:
        """A row that was computed has its result, which becomes that of all rows like it, unless
        it says nothing about them: then they get their own try."""
        key = self._keys.pop(id(row), None)
        if key is None:
            return [Finish(row, result)]
        failed = result.error.type if result.error is not None else None
        if failed is RowErrorType.ENGINE_FAILURE:
            return [Finish(row, result), *self._pass_on(key)]
        if failed is RowErrorType.TIMEOUT:  # which says how busy the engine was, too
            return [Finish(row, result), *map(Compute, self._same.late(key))]
        result = replace(result, key=key)
        return [Finish(row, result), *self._share(key, result)]

    def given_up(self, row: ReadyRow) -> list[Decision]:
        """A row that was to be computed is another worker's now; rows like it are not."""
        key = self._keys.pop(id(row), None)
        return [] if key is None else self._pass_on(key)

    def poll(self) -> list[Decision]:
        """Take in what the store answered since."""
        if self._stored is None or not self._asked:
            return []
        self._stored.check()
        decisions: list[Decision] = []
        for key, result in self._stored.found():
            row = self._asked.pop(key)
            if result is None:
                decisions.append(Compute(row))
                continue
            del self._keys[id(row)]
            decisions.append(Finish(row, replace(result, duplicate=True)))
            decisions += self._share(key, result)
        return decisions

    def _pass_on(self, key: bytes) -> list[Decision]:
        another = self._same.failed(key)
        if another is None:
            return []
        self._keys[id(another)] = key
        return [Compute(another)]

    def _share(self, key: bytes, result: RowResult) -> list[Decision]:
        followers = self._same.finished(key, result)
        return [Finish(follower, replace(result, duplicate=True)) for follower in followers]


def _bytes(result: RowResult) -> int:
    """About what a result holds in memory."""
    size = _OVERHEAD_BYTES * (1 + len(result.answers)) + len(result.completion or "") * (
        3 if result.fields else 1
    )
    if result.scores is not None:
        scores = result.scores
        arrays = (scores.token_ids, scores.logprobs, scores.top_ids, scores.top_logprobs)
        size += sum(a.nbytes for a in arrays)
    return size
