"""Between the feeder and the engine: rows whose answer is there, or on its way, are not computed.

A row's key is looked for in this order: among the last results of this worker, among the rows it
works on, among the answers that all workers have kept (read by a thread of its own, so that the
engine never waits for a disk). Only a row that is in none of them is computed.
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace

from pipeline.dispatch.duplicates import Duplicates
from pipeline.errors import RowErrorType
from pipeline.output.columns.results import RowResult
from pipeline.prompt.answers import Answers
from pipeline.worker.answer_cache.store import AnswerStore
from pipeline.worker.open_unit import ReadyRow
from pipeline.worker.stage import Stage

_MEMORY_BYTES = 64 << 20  # of results
_OVERHEAD_BYTES = 600  # of one result, beside its text and its scores
_ASKED_AT_MOST = 64  # rows; beyond, computing is faster than a slow disk
_FOLLOWERS_AT_MOST = 4096  # rows; an engine has a few hundred, of which each may hold up a unit
_REFRESH_SECONDS = 5.0
_SHARE = 0.05  # of its time that the thread spends on looking for new files
_Found = tuple[bytes, RowResult | None]


class AnswerStage:
    """The thread that reads the store. Runs from ``start`` to ``stop``."""

    def __init__(self, store: AnswerStore) -> None:
        self._store = store
        self._asked: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._found: queue.SimpleQueue[_Found] = queue.SimpleQueue()
        self._stage = Stage("answers", self._answer)
        self._stop = threading.Event()

    def start(self) -> None:
        self._stage.start()

    def stop(self) -> None:
        self._stop.set()
        self._asked.put(None)

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        self._stage.check()

    def may_have(self, key: bytes) -> bool:
        return self._store.may_have(key)

    def ask(self, key: bytes) -> None:
        self._asked.put(key)

    def found(self) -> list[_Found]:
        """What came back since; None: there is no answer after all."""
        found = []
        with suppress(queue.Empty):
            while True:
                found.append(self._found.get_nowait())
        return found

    def _answer(self) -> None:
        next_refresh = 0.0
        while not self._stop.is_set():
            now = time.monotonic()
            if now >= next_refresh:
                self._store.refresh()
                took = time.monotonic() - now
                next_refresh = now + max(_REFRESH_SECONDS, took / _SHARE)
            keys = self._take(max(0.0, next_refresh - time.monotonic()))
            results = self._store.find(keys)
            for key in keys:
                self._found.put((key, results.get(key)))

    def _take(self, wait_seconds: float) -> list[bytes]:
        keys: list[bytes] = []
        with suppress(queue.Empty):
            key = self._asked.get(timeout=wait_seconds)
            while key is not None:
                keys.append(key)
                key = self._asked.get_nowait()
        return keys


@dataclass(frozen=True, slots=True)
class Compute:
    """This row is to be computed."""

    row: ReadyRow


@dataclass(frozen=True, slots=True)
class Finish:
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
        self, answers: Answers, *, enabled: bool = True, stored: AnswerStage | None = None
    ) -> None:
        """``enabled`` False: every row is computed. ``stored``: answers of other workers."""
        self._answers = answers
        self._enabled = enabled
        self._stored = stored
        self._same: Duplicates[ReadyRow, RowResult] = Duplicates(_bytes, _MEMORY_BYTES)
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
    size = _OVERHEAD_BYTES + len(result.completion or "") * (3 if result.fields else 1)
    if result.scores is not None:
        scores = result.scores
        arrays = (scores.token_ids, scores.logprobs, scores.top_ids, scores.top_logprobs)
        size += sum(a.nbytes for a in arrays)
    return size
