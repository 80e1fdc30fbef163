"""What is in a file, as a hash of its bytes: so one that was only touched, or copied over itself,
is known again. An object's ETag does the same, and nothing of it is read for that."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

from pipeline.errors import UsageError
from pipeline.input.find import has_moved
from pipeline.input.formats.base import open_file
from pipeline.input.shard import Shard

_CHUNK = 1 << 20  # bytes
_AT_ONCE = 4  # files that are read; hashing leaves the interpreter to others
_PATIENCE_SECONDS = 10.0


def content_of(shard: Shard) -> str:
    """The SHA-256 of the file's bytes, 64 hex digits; "" where it cannot be read, has been written
    to since it was looked into, or has an ETag."""
    return _content(shard, float("inf"))


def with_contents(shards: Sequence[Shard]) -> tuple[Shard, ...]:
    """The shards with the hashes of those that have none yet, as far as there are a few seconds for
    it: without one, a file that is touched counts as changed."""
    until = time.monotonic() + _PATIENCE_SECONDS

    def known(shard: Shard) -> Shard:
        return shard if shard.content else replace(shard, content=_content(shard, until))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return tuple(pool.map(known, shards))


def _content(shard: Shard, until: float) -> str:
    if not shard.stamp:
        return ""
    found, size = hashlib.sha256(), 0
    with suppress(OSError, UsageError), open_file(shard.path) as file:
        while part := file.read(_CHUNK):
            found.update(part)
            size += len(part)
            if time.monotonic() > until:
                return ""
    if size != shard.size or has_moved(shard.path, shard.size, shard.stamp):
        return ""
    return found.hexdigest()
