"""The few storage operations that the commit protocol relies on, local and through fsspec.

Two guarantees matter: ``create`` makes a small file appear whole and only if it did not exist
(compare-and-set), and ``publish`` makes a committed file appear whole under its final name.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from pipeline.errors import JobFailed, UsageError
from pipeline.storage.local import LocalStorage
from pipeline.storage.object_store import ObjectStorage
from pipeline.storage.retrying import PatientStorage
from pipeline.storage.transient_errors import PATIENCE_SECONDS


class Storage(Protocol):
    """A folder for one run. Paths are relative to it, with forward slashes.

    From ``open_storage``: reading raises StorageFailed, writing CommitFailed, each after waiting
    did not help, with a message that says what to do.
    """

    def address(self, path: str = "") -> str:
        """The name of ``path`` for users and other tools."""

    def read(self, path: str) -> bytes | None:
        """The content; None if there is no such file."""

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        """As ``read``, for many small files, in parallel where that is faster."""

    def open(self, path: str) -> BinaryIO:
        """A file to read parts of. Raises FileNotFoundError."""

    def create(self, path: str, content: bytes) -> bool:
        """Create a small file whole; False, changing nothing, if another exists already.

        Raises CommitStateUnknown if storage does not say whether the file was created.
        """

    def replace(self, path: str, content: bytes) -> None:
        """Write a file whole, over an older one if one exists."""

    def write(self, path: str, writer: Callable[[Path], None]) -> None:
        """Let ``writer`` fill a local file, and store it at ``path``, a name no one else uses.

        ``writer`` may be called again, for another file or the same one.
        """

    def publish(self, source: str, target: str) -> None:
        """Make ``source`` also appear, whole, as ``target``, whatever was there before.

        Safe to repeat. Only for files that a commit record names: no other file may be there.
        """

    def files(self, folder: str) -> list[tuple[str, int]]:
        """(path, bytes) of the files directly in ``folder``; empty if there is no such folder."""

    def names(self, folder: str) -> list[str]:
        """The paths of ``files``, in any order: faster for a million files."""

    def versions(self, folder: str) -> dict[str, str] | None:
        """Path -> a value that changes with the file's content ("": unknown); None if reading the
        files themselves is as fast."""

    def folders(self) -> list[str]:
        """Names of the folders directly in this one."""

    def delete(self, path: str) -> None:
        """Remove a file; does nothing if it does not exist."""


def open_storage(address: str, *, patience_seconds: float = PATIENCE_SECONDS) -> Storage:
    """The storage at a local path or any fsspec address. Raises UsageError.

    ``patience_seconds``: how long to wait for transient errors to pass.
    """
    protocol, slashes, path = address.partition("://")
    inner: Storage
    if not slashes:
        inner = LocalStorage(Path(address))
    elif protocol in ("file", "local"):
        inner = LocalStorage(Path(path))
    else:
        inner = ObjectStorage(address)
    return PatientStorage(inner, patience_seconds)


def hasty(storage: Storage, patience_seconds: float) -> Storage:
    """The same ``storage`` for operations that give up soon: it waits no longer than that for
    transient errors to pass."""
    if isinstance(storage, PatientStorage):
        return storage.with_patience(patience_seconds)
    return PatientStorage(storage, patience_seconds)


def check_exclusive(storage: Storage, folder: str) -> None:
    """Raise UsageError if ``storage`` lets two processes create the same file: rackmill could not
    tell which was first, and rows would be lost. Writes and removes a file in ``folder``."""
    path = f"{folder}/probe-{secrets.token_hex(8)}"
    try:
        first, second = storage.create(path, b"first"), storage.create(path, b"second")
        if (first, second, storage.read(path)) != (True, False, b"first"):
            raise UsageError(
                f"output.path {storage.address()}: this storage does not create files exclusively "
                "(S3: PUT with If-None-Match)",
                "give another --output: a local disk, or a store that does, as AWS S3 does",
            )
    finally:
        with contextlib.suppress(JobFailed):  # it could not be written either
            storage.delete(path)
