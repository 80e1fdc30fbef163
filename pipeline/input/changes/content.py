"""A file's content as a hash of its bytes: so a file that was only touched, or copied over itself,
is recognized. An object's ETag does the same without reading it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

from pipeline.errors import UsageError
from pipeline.input.find import has_moved
from pipeline.input.formats.base import open_file, pieces
from pipeline.input.shard import Shard

_AT_ONCE = 4  # files read at once; hashing releases the interpreter lock
_PATIENCE_SECONDS = 10.0


def content_of(shard: Shard) -> str:
    """The SHA-256 of the file's bytes, 64 hex digits; "" if it cannot be read, was written to since
    it was scanned, or has an ETag."""
    return _content(shard, float("inf"))


def with_contents(shards: Sequence[Shard]) -> tuple[Shard, ...]:
    """The shards, with hashes for those that have none yet, as far as a few seconds suffice:
    without a hash, a touched file counts as changed."""
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
        for part in pieces(file):
            found.update(part)
            size += len(part)
            if time.monotonic() > until:
                return ""
    if size != shard.size or has_moved(shard.path, shard.size, shard.stamp):
        return ""
    return found.hexdigest()
