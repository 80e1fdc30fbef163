"""Many commit records in one object: in a store where each record takes a request, a resume would
otherwise take long.

    OUTPUT/_rackmill/packs/TOKEN.json.z     path -> version and content of records, compressed

A pack is only a copy. A record in it counts only while the store lists the same version of that
record, so the records alone decide, whatever happens to records or packs. Only stores whose
listings have versions (ETags) get packs; on a disk the records themselves are read as fast.
"""

from __future__ import annotations

import logging
import secrets
import zlib
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from pipeline.output.commit.records import COMMITS, PACKS, newest
from pipeline.storage.base import Storage
from pipeline.storage.read_many import contents

_log = logging.getLogger(__name__)
_LEAST, MOST = 200, 2_000  # records in a pack
_Packed = dict[str, tuple[str, str]]  # by path: version and content
_PACK = msgspec.json.Decoder(_Packed)


def record_contents(storage: Storage) -> Iterator[tuple[str, bytes]]:
    """Path and content of every unit's newest commit record."""
    versions = storage.versions(COMMITS)
    if versions is None:
        yield from contents(storage, newest(storage.names(COMMITS)))
        return
    paths = newest(versions)
    packed = _read_packs(storage) if len(paths) >= _LEAST else {}
    others: list[str] = []
    for path in paths:
        version, content = packed.get(path, ("", ""))
        if version and version == versions[path]:
            yield path, content.encode()
        else:
            others.append(path)
    yield from contents(storage, others)


def _read_packs(storage: Storage) -> _Packed:
    """The content of all packs. A pack that cannot be parsed is ignored."""
    found: _Packed = {}
    for _, content in contents(storage, storage.names(PACKS)):
        with suppress(zlib.error, msgspec.DecodeError, UnicodeDecodeError):
            found |= _PACK.decode(zlib.decompress(content))
    return found


class RecordPacker:
    """Packs records that are not in a pack yet, a few thousand at a time."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._packed: dict[str, str] | None = None  # path -> version

    def pack(self) -> int:
        """Write one more pack if it is worth it. Returns how many records it holds.

        Raises what storage raises; an error does no harm.
        """
        versions = self._storage.versions(COMMITS)
        if versions is None or len(versions) < _LEAST:
            return 0
        if self._packed is None:
            packed = _read_packs(self._storage)
            self._packed = {path: version for path, (version, _) in packed.items()}
        known = self._packed
        new = [path for path in newest(versions) if known.get(path) != versions[path]]
        new = [path for path in new if versions[path]][:MOST]
        if len(new) < _LEAST:
            return 0
        pack: _Packed = {
            # a record that is replaced at this moment may not match its version: then it will not
            # match the version that is listed later either
            path: (versions[path], content.decode(errors="replace"))
            for path, content in contents(self._storage, new)
        }
        name = f"{PACKS}/{secrets.token_hex(8)}.json.z"
        self._storage.replace(name, zlib.compress(msgspec.json.encode(pack), 1))
        known |= {path: version for path, (version, _) in pack.items()}
        _log.debug("packed %d commit records", len(pack))
        return len(pack)
