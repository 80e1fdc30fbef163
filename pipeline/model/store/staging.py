"""A folder that appears whole or not at all; the next attempt finds what was done so far.

The staging folder is beside the target and named after it, so a killed attempt leaves its finished
shards there for the next. The lock is on the folder itself: it ends with the process that holds it,
and leaves no lock file.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.storage.local import LocalStorage, sync

STATE_FILE = ".conversion.json"


class Staging:
    """``path``: the folder to fill. ``key``: identifies what is being made; leftovers of an attempt
    with another key are deleted.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self._key = key
        self._finished: dict[str, dict[str, Any]] = self._load()

    def _load(self) -> dict[str, dict[str, Any]]:
        try:
            state = json.loads((self.path / STATE_FILE).read_text(encoding="utf-8"))
            if state["key"] == self._key:
                return dict(state["shards"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        self.clear()
        return {}

    def clear(self) -> None:
        """Empty the folder, but keep it (it carries the lock)."""
        for entry in self.path.iterdir():
            entry.unlink() if entry.is_file() or entry.is_symlink() else shutil.rmtree(entry)
        self._finished = {}

    def finished(self, name: str) -> dict[str, Any] | None:
        """The record of shard ``name`` if an earlier attempt finished it and its size and SHA-256
        are unchanged."""
        record = self._finished.get(name)
        file = self.path / name
        if record is None or not file.exists() or file.stat().st_size != record["bytes"]:
            return None
        with file.open("rb") as opened:
            intact = hashlib.file_digest(opened, "sha256").hexdigest() == record["sha256"]
        return record if intact else None

    def finish(self, name: str, record: dict[str, Any]) -> None:
        """Note that shard ``name`` is complete and on the disk. ``record``: plain data with "bytes"
        and "sha256"."""
        self._finished[name] = record
        state = json.dumps({"key": self._key, "shards": self._finished})
        LocalStorage(self.path).replace(STATE_FILE, state.encode())

    def publish(self, target: Path) -> None:
        """Sync the files to the disk, then rename the folder to ``target``."""
        for state in self.path.glob(f"*{STATE_FILE}*"):  # and what a kill left of writing it
            state.unlink()
        for file in self.path.iterdir():
            sync(file)
        sync(self.path)
        self.path.chmod(0o755)
        os.replace(self.path, target)  # also over an empty folder
        sync(target.parent)


def staging_path(target: Path) -> Path:
    return target.parent / f".{target.name}.partial"


@contextlib.contextmanager
def locked(target: Path) -> Iterator[Path]:
    """The staging folder of ``target``, created if it is missing and locked by this process; waits
    for another process that has it. Removed afterwards if it still exists and is empty.
    """
    path = staging_path(target)
    while True:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still(path, descriptor):
                yield path
                return
        finally:
            with contextlib.suppress(OSError):
                path.rmdir()
            os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the open folder is the one at ``path``: the process that had it before may have
    published or removed it meanwhile."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
