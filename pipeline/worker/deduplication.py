"""Between the feeder and the engine: rows whose answer exists, or is being computed, are not
computed again.

A row's key is looked for in this order: among the last results of this worker, among the rows it
works on, among the answers that all workers have stored (read by a separate thread, so that the
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
_FOLLOWERS_AT_MOST = 4096  # rows; an engine has a few hundred, and each may hold up a unit


class SingleFlight(Generic[Row, Result]):
    """Rows by a key that says exactly what is asked. One of them is computed, those with the same
    key wait for its result, and the last results are remembered for rows that come later.

    Ask ``known``, then ``first``; report ``finished``, ``failed`` or ``late``.
    """

    def __init__(self, size: Callable[[Result], int], memory_bytes: int = 64 << 20) -> None:
        """``size``: bytes of a result; the results used last are kept, up to ``memory_bytes``."""
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
        """Whether ``row`` is to be computed; otherwise it waits for the one that is being
        computed."""
        followers = self._followers.get(key)
        if followers is None:
            self._followers[key] = []
            return True
        followers.append(row)
        self.waiting += 1
        return False

    def finished(self, key: bytes, result: Result) -> list[Row]:
        """The first row has its result. Returns the rows that waited for it: all have the same
        answer."""
        self._remember(key, result)
        return self._released(key)

    def failed(self, key: bytes) -> Row | None:
        """The first row failed in a way that says nothing about the others.

        Returns the row to compute instead, which is now the first; None when none waits.
        """
        followers = self._followers[key]
        if followers:
            self.waiting -= 1
            return followers.pop(0)
        del self._followers[key]
        return None

    def late(self, key: bytes) -> list[Row]:
        """The first row took too long; the others may or may not. So each is computed by itself,
        and all at the same time, since together they take no longer than one."""
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


class Decision(NamedTuple):
    """``result``: the row's; None: it is to be computed."""

    row: ReadyRow
    result: RowResult | None = None


class Deduplication:
    """Takes rows in. Returns, in the order in which to do them, which are to be computed and which
    have their result. A row that is neither yet is returned by a later call.

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
        self._keys: dict[int, bytes] = {}  # by id() of the first row with each key
        self._asked: dict[bytes, ReadyRow] = {}  # of the store

    @property
    def waiting(self) -> bool:
        """Whether rows wait for the store: ``poll`` will bring them."""
        return bool(self._asked)

    @property
    def room(self) -> int:
        """How many more rows may be taken. Rows that wait for the answer of another hold memory,
        and keep units open, until it comes."""
        return max(0, _FOLLOWERS_AT_MOST - self._same.waiting)

    def take(self, row: ReadyRow) -> list[Decision]:
        """A new row: finished at once, computed, or answered later together with another."""
        key = self._answers.key(row.prompt) if self._enabled else None
        if key is None:
            return [Decision(row)]
        known = self._same.known(key)
        if known is not None:
            return [Decision(row, replace(known, duplicate=True))]
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
        return [Decision(row)]

    def finished(self, row: ReadyRow, result: RowResult) -> list[Decision]:
        """A computed row has its result. All rows like it get the same, unless the result says
        nothing about them: then they get their own try."""
        key = self._keys.pop(id(row), None)
        if key is None:
            return [Decision(row, result)]
        failed = result.error.type if result.error is not None else None
        if failed is RowErrorType.ENGINE_FAILURE:
            return [Decision(row, result), *self._pass_on(key)]
        if failed is RowErrorType.TIMEOUT:  # which also depends on how busy the engine was
            return [Decision(row, result), *map(Decision, self._same.late(key))]
        result = replace(result, key=key)
        return [Decision(row, result), *self._share(key, result)]

    def given_up(self, row: ReadyRow) -> list[Decision]:
        """A row that was to be computed now belongs to another worker; rows like it do not."""
        key = self._keys.pop(id(row), None)
        return [] if key is None else self._pass_on(key)

    def poll(self) -> list[Decision]:
        """Take in what the store has answered since the last call."""
        if self._stored is None or not self._asked:
            return []
        self._stored.stage.check()
        decisions: list[Decision] = []
        for key, result in self._stored.found():
            row = self._asked.pop(key)
            if result is None:
                decisions.append(Decision(row))
                continue
            del self._keys[id(row)]
            decisions.append(Decision(row, replace(result, duplicate=True)))
            decisions += self._share(key, result)
        return decisions

    def _pass_on(self, key: bytes) -> list[Decision]:
        another = self._same.failed(key)
        if another is None:
            return []
        self._keys[id(another)] = key
        return [Decision(another)]

    def _share(self, key: bytes, result: RowResult) -> list[Decision]:
        followers = self._same.finished(key, result)
        return [Decision(follower, replace(result, duplicate=True)) for follower in followers]


def _bytes(result: RowResult) -> int:
    """Roughly what a result takes in memory."""
    size = _OVERHEAD_BYTES * (1 + len(result.answers)) + len(result.completion or "") * (
        3 if result.fields else 1
    )
    if result.scores is not None:
        scores = result.scores
        arrays = (scores.token_ids, scores.logprobs, scores.top_ids, scores.top_logprobs)
        size += sum(a.nbytes for a in arrays)
    return size
