"""Reading many small files of a storage: a resume may read a million commit records."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from pipeline.storage.base import Storage

_READERS = 4  # threads; for each of them an object store answers many requests at once
_AT_ONCE = 256  # files that a thread reads at once
_MANY = 500_000  # objects
_Contents = Future[list[bytes | None]]


def contents(storage: Storage, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Each path with its content, in their order, without files that do not exist.

    A few thousand files are read ahead, however many there are.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        ahead: deque[tuple[Sequence[str], _Contents]] = deque()
        for start in range(0, len(paths), _AT_ONCE):
            chunk = paths[start : start + _AT_ONCE]
            ahead.append((chunk, pool.submit(storage.read_many, chunk)))
            if len(ahead) > 2 * _READERS:
                yield from _there(*ahead.popleft())
        while ahead:
            yield from _there(*ahead.popleft())


def _there(paths: Sequence[str], read: _Contents) -> Iterator[tuple[str, bytes]]:
    for path, content in zip(paths, read.result(), strict=True):
        if content is not None:
            yield path, content


@contextmanager
def growing() -> Iterator[None]:
    """Pause garbage collection while millions of objects are created and none is garbage, and
    exempt them later: scanning them would take longer than creating them."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if gc.get_count()[0] > _MANY:
            gc.freeze()
        gc.enable()
