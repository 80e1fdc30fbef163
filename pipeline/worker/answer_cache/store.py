"""Finished answers by content: what one worker computed, no other worker computes again.

    OUTPUT/_rackmill/answers/UNIT-TOKEN.parquet     a job's own, until it is done
    STORE/FAMILY/UNIT-TOKEN.parquet                 shared between jobs (``duplicates.store``)

A file per committed unit, written once and never changed. A family is what all keys of a job have
in common (the model and the shape of the answer), so a job reads no other job's answers in vain.
Nothing here is needed for a job to be right: what cannot be read is computed, what cannot be
written is left out, whatever the reason (file systems raise what their libraries raise).
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RackmillError, UsageError
from pipeline.job.job import Job
from pipeline.output.columns.results import RowResult
from pipeline.output.commit.records import ANSWERS
from pipeline.prompt.answer_key import AnswerKeys
from pipeline.storage.base import Storage, hasty, open_storage
from pipeline.worker.answer_cache.file import AnswerFile, encode, head_of, read_heads, worth_keeping
from pipeline.worker.answer_cache.index import AnswerIndex

_CACHE_BYTES = 32 << 20
_MARKER = "rackmill-answers"
_PATIENCE = 2.0  # seconds: what storage does not give at once is soon computed


class AnswerStore:
    """Answers in one folder of a storage.

    ``may_have`` may be asked by any thread at any time and takes microseconds; ``refresh``,
    ``find`` and ``keep`` read and write files.
    """

    def __init__(self, storage: Storage, folder: str, *, cache_bytes: int = _CACHE_BYTES) -> None:
        self._storage = storage
        self._folder = folder
        self._index = AnswerIndex()
        self._adding = threading.Lock()
        self._seen: set[str] = set()
        self._cache: OrderedDict[str, AnswerFile] = OrderedDict()
        self._cache_bytes = cache_bytes

    def __len__(self) -> int:
        """Answers in the index."""
        return len(self._index)

    def may_have(self, key: bytes) -> bool:
        """Whether an answer to ``key`` is there, but for one chance in 2**64 per answer."""
        return next(self._index.files(head_of(key)), None) is not None

    def refresh(self) -> None:
        """Take in the files that others wrote since."""
        there: list[str] = []
        with suppress(Exception):
            there += [path for path, _ in self._storage.files(self._folder)]
        for path in there:
            if path.endswith(".parquet") and path not in self._seen:
                self._seen.add(path)
                with suppress(Exception), self._storage.open(path) as file:
                    self._add(path, read_heads(file))

    def find(self, keys: Iterable[bytes]) -> dict[bytes, RowResult]:
        """The answers that are there."""
        wanted: dict[str, list[bytes]] = {}  # by file, so that each is read once
        for key in keys:
            for path in self._index.files(head_of(key)):
                wanted.setdefault(path, []).append(key)
        found: dict[bytes, RowResult] = {}
        for path, some in wanted.items():
            answers = self._file(path)
            for key in some:
                result = answers.find(key) if answers is not None else None
                if result is not None:
                    found[key] = result
        return found

    def _file(self, path: str) -> AnswerFile | None:
        if path in self._cache:
            self._cache.move_to_end(path)
            return self._cache[path]
        file = None
        with suppress(Exception), self._storage.open(path) as content:
            file = AnswerFile(content)
        if file is None:
            return None  # removed since, or damaged
        self._cache[path] = file
        while len(self._cache) > 1 and sum(f.nbytes for f in self._cache.values()) > (
            self._cache_bytes
        ):
            self._cache.popitem(last=False)
        return file

    def keep(self, unit_id: str, results: Sequence[RowResult]) -> None:
        """The unit is committed: keep what was computed for it and is worth it."""
        if not any(map(worth_keeping, results)):
            return
        content, heads = encode(results)
        path = f"{self._folder}/{unit_id}-{secrets.token_hex(4)}.parquet"
        self._seen.add(path)
        with suppress(Exception):
            self._storage.replace(path, content)
            self._add(path, heads)

    def _add(self, path: str, heads: NDArray[np.uint64]) -> None:
        with self._adding:  # a worker's writer keeps while another thread refreshes
            self._index.add(path, heads)


def open_answers(job: Job, model_hash: str, output: Storage) -> AnswerStore | None:
    """The store that ``job`` uses, whose ``output`` is open; None when every row is to be
    computed."""
    if not job.duplicates.answer_once or job.score is not None:
        return None  # scores are too large to keep twice
    shared = job.duplicates.store
    if shared is None:
        return AnswerStore(hasty(output, _PATIENCE), ANSWERS)
    opened = open_storage(shared, patience_seconds=_PATIENCE)
    return AnswerStore(opened, AnswerKeys(job, model_hash).family[:24])


def check_store(job: Job) -> None:
    """Raise UsageError if ``duplicates.store`` cannot be written to."""
    shared = job.duplicates.store
    if shared is None:
        return
    try:
        open_storage(shared).create(_MARKER, b"1\n")
    except (RackmillError, OSError) as e:
        reason = e.message if isinstance(e, RackmillError) else str(e)
        raise UsageError(
            f"duplicates.store is not writable: {reason}", "give another folder, or leave it out"
        ) from e
