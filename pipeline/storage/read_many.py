"""Reading many small files of a storage: a resume may have a million commit records to read."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from pipeline.storage.base import Storage

_READERS = 4  # threads; an object store answers many requests of each at once
_AT_ONCE = 256  # files that one of them reads
_MANY = 500_000  # objects
_Contents = Future[list[bytes | None]]


def contents(storage: Storage, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Each path with its content, in their order; without those that are not there.

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
    """While millions of objects are made of which none is garbage, nobody need look for any, then
    or later: that would take longer than making them."""
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
