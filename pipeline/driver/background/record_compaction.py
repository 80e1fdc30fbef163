"""The driver's thread that packs commit records, so that a later run need not ask for each."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Self

from pipeline.errors import RackmillError
from pipeline.output.commit.packed_records import MOST, RecordPacker
from pipeline.storage.base import Storage

_EVERY_SECONDS = 60.0
_SHARE = 0.02  # of its time at most that the thread spends on it
_TROUBLES = (OSError, RackmillError)


class RecordCompactor:
    """Packs from ``with`` to its end, when it does so once more. Never ends a run: packs only
    save time."""

    def __init__(self, storage: Storage) -> None:
        self._packer = RecordPacker(storage)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._live, name="packing", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed.set()
        self._thread.join()

    def _live(self) -> None:
        wait = _EVERY_SECONDS
        while not self._closed.wait(wait):
            started = time.monotonic()
            while self._pack() == MOST and not self._closed.is_set():
                pass  # there may be more
            wait = max(_EVERY_SECONDS, (time.monotonic() - started) / _SHARE)
        self._pack()

    def _pack(self) -> int:
        with contextlib.suppress(*_TROUBLES):
            return self._packer.pack()
        return 0
