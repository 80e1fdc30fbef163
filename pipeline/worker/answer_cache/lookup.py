"""A thread looks up answers that other workers have kept, so that the engine waits for no disk."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress

from pipeline.output.columns.results import RowResult
from pipeline.worker.answer_cache.store import AnswerStore
from pipeline.worker.stage import Stage

_REFRESH_SECONDS = 5.0
_SHARE = 0.05  # of its time that the thread spends on looking for new files
_Found = tuple[bytes, RowResult | None]


class AnswerLookup:
    """The thread that reads the store, until ``stop``."""

    def __init__(self, store: AnswerStore) -> None:
        self._store = store
        self._asked: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._found: queue.SimpleQueue[_Found] = queue.SimpleQueue()
        self.stage = Stage("answers", self._answer)
        self._stop = threading.Event()

    def stop(self) -> None:
        self._stop.set()
        self._asked.put(None)

    def may_have(self, key: bytes) -> bool:
        return self._store.may_have(key)

    def ask(self, key: bytes) -> None:
        self._asked.put(key)

    def found(self) -> list[_Found]:
        """What came back since; None: there is no answer after all."""
        return [self._found.get() for _ in range(self._found.qsize())]

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
