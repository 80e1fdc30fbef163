"""The few storage operations that the commit protocol stands on, local and through fsspec.

Two promises matter: ``create`` makes a small file appear whole and only if it was not there
(compare-and-set), and ``publish`` makes a committed file appear whole under its final name.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import fsspec

from pipeline.errors import CommitFailed, CommitStateUnknown, UsageError


class Storage(Protocol):
    """A folder for one run. Paths are relative to it, with forward slashes."""

    def address(self, path: str = "") -> str:
        """How users and other tools name ``path``."""

    def read(self, path: str) -> bytes | None:
        """The content; None if there is no such file."""

    def open(self, path: str) -> BinaryIO:
        """A file to read parts of. Raises FileNotFoundError."""

    def create(self, path: str, content: bytes) -> bool:
        """Create a small file whole; False, changing nothing, if it is there already.

        Raises CommitStateUnknown when storage does not say whether the file was created.
        """

    def replace(self, path: str, content: bytes) -> None:
        """Write a file whole, over an older one if there is one."""

    def write(self, path: str, writer: Callable[[Path], None]) -> None:
        """Have ``writer`` fill a local file, and keep it at ``path``, a name no one else uses.

        Raises CommitFailed when there is no room or no right to write.
        """

    def publish(self, source: str, target: str) -> None:
        """Make ``source`` also appear, whole, as ``target``, whatever was there before.

        Harmless to do again. Only for what a commit record names: it alone may be there.
        """

    def files(self, folder: str) -> list[tuple[str, int]]:
        """(path, bytes) of the files directly in ``folder``; empty if there is no such folder."""

    def folders(self) -> list[str]:
        """Names of the folders directly in this one."""

    def delete(self, path: str) -> None:
        """Remove a file; nothing if it is not there."""


def open_storage(address: str) -> Storage:
    """The storage at a local path or any fsspec address. Raises UsageError."""
    if "://" not in address:
        return LocalStorage(Path(address))
    protocol = address.partition("://")[0]
    if protocol in ("file", "local"):
        return LocalStorage(Path(address.partition("://")[2]))
    return ObjectStorage(address)


class LocalStorage:
    """A folder on a file system with hard links; every file is fsynced before it counts."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def address(self, path: str = "") -> str:
        return str(self.root / path) if path else str(self.root)

    def read(self, path: str) -> bytes | None:
        try:
            return (self.root / path).read_bytes()
        except FileNotFoundError:
            return None

    def open(self, path: str) -> BinaryIO:
        return (self.root / path).open("rb")

    def create(self, path: str, content: bytes) -> bool:
        target = self.root / path
        temporary = self._write_temporary(target, content)
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        except OSError as e:
            raise CommitFailed(f"{target}: {e.strerror}") from e
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)
        return True

    def replace(self, path: str, content: bytes) -> None:
        target = self.root / path
        os.replace(self._write_temporary(target, content), target)
        _sync_folder(target.parent)

    def write(self, path: str, writer: Callable[[Path], None]) -> None:
        target = self.root / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            writer(target)
            with target.open("rb") as file:
                os.fsync(file.fileno())
        except OSError as e:
            target.unlink(missing_ok=True)
            raise CommitFailed(f"{target}: {e.strerror or e}") from e
        _sync_folder(target.parent)

    def publish(self, source: str, target: str) -> None:
        temporary = self.root / f".{target}.{secrets.token_hex(6)}"
        os.link(self.root / source, temporary)
        try:
            os.replace(temporary, self.root / target)
        finally:
            temporary.unlink(missing_ok=True)  # replacing a file by itself leaves both names
        _sync_folder(self.root)

    def files(self, folder: str) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        try:
            with os.scandir(self.root / folder) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        if entry.is_file():
                            path = f"{folder}/{entry.name}" if folder else entry.name
                            found.append((path, entry.stat().st_size))
        except FileNotFoundError:
            return []
        return sorted(found)

    def folders(self) -> list[str]:
        return (
            sorted(p.name for p in self.root.iterdir() if p.is_dir()) if self.root.exists() else []
        )

    def delete(self, path: str) -> None:
        (self.root / path).unlink(missing_ok=True)

    def _write_temporary(self, target: Path, content: bytes) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".{target.name}.{secrets.token_hex(6)}"
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as e:
            temporary.unlink(missing_ok=True)
            raise CommitFailed(f"{target}: {e.strerror}") from e
        return temporary


class ObjectStorage:
    """A prefix on an object store that can create exclusively (S3 and its kin, memory)."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self._address)
        except (ValueError, ImportError) as e:
            raise UsageError(f"output.path {address}: {e}") from e

    def address(self, path: str = "") -> str:
        return f"{self._address}/{path}" if path else self._address

    def _key(self, path: str) -> str:
        return f"{self._root}/{path}" if path else str(self._root)

    def read(self, path: str) -> bytes | None:
        try:
            content: bytes = self._fs.cat_file(self._key(path))
            return content
        except FileNotFoundError:
            return None

    def open(self, path: str) -> BinaryIO:
        file: BinaryIO = self._fs.open(self._key(path), "rb")
        return file

    def create(self, path: str, content: bytes) -> bool:
        try:
            self._fs.pipe_file(self._key(path), content, mode="create")
        except FileExistsError:
            # also how a retried request reports its own first success: the content decides
            return self.read(path) == content
        except OSError as e:
            raise CommitStateUnknown(f"{self.address(path)}: {e}") from e
        return True

    def replace(self, path: str, content: bytes) -> None:
        self._fs.pipe_file(self._key(path), content)

    def write(self, path: str, writer: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory(prefix="rackmill-") as folder:
            local = Path(folder) / "attempt"
            try:
                writer(local)
                self._fs.put_file(str(local), self._key(path))
            except OSError as e:
                raise CommitFailed(f"{self.address(path)}: {e}") from e

    def publish(self, source: str, target: str) -> None:
        self._fs.cp_file(self._key(source), self._key(target))

    def files(self, folder: str) -> list[tuple[str, int]]:
        return sorted(
            (f"{folder}/{name}" if folder else name, int(entry["size"] or 0))
            for name, entry in self._entries(folder, "file")
        )

    def folders(self) -> list[str]:
        return sorted(name for name, _ in self._entries("", "directory"))

    def _entries(self, folder: str, kind: str) -> list[tuple[str, dict[str, Any]]]:
        self._fs.invalidate_cache(self._key(folder))
        try:
            entries: list[dict[str, Any]] = self._fs.ls(self._key(folder), detail=True)
        except FileNotFoundError:
            return []
        named = [(str(e["name"]).rstrip("/").rsplit("/", 1)[-1], e) for e in entries]
        return [(name, e) for name, e in named if name and e["type"] == kind]

    def delete(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._key(path))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
