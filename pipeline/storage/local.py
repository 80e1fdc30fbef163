"""A folder of a file system, with the few operations of ``Storage``."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

_READ_AT_ONCE = 1 << 16  # bytes; a commit record is far smaller
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1  # of Linux' renameat2


class LocalStorage:
    """Every file is fsynced before it counts. All methods raise OSError.

    Needs hard links, or renaming without replacing (which FAT, exFAT and many network folders
    support on Linux).
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def address(self, path: str = "") -> str:
        return str(self.root / path) if path else str(self.root)

    def read(self, path: str) -> bytes | None:
        [content] = self.read_many([path])
        return content

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        return [_read(f"{self.root}/{path}") for path in paths]

    def open(self, path: str) -> BinaryIO:
        return (self.root / path).open("rb")

    def create(self, path: str, content: bytes) -> bool:
        target = self.root / path
        temporary = self._write_temporary(target, content)
        try:
            _name_if_free(temporary, target)
        except FileExistsError:
            sync(target.parent)  # it may be ours, from before an error interrupted us
            return False
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        sync(target.parent)
        return True

    def replace(self, path: str, content: bytes) -> None:
        target = self.root / path
        temporary = self._write_temporary(target, content)
        with _removed_if_it_fails(temporary):
            temporary.replace(target)
        sync(target.parent)

    def write(self, path: str, writer: Callable[[Path], None]) -> None:
        target = self.root / path
        with _removed_if_it_fails(target):
            _make_folder(target.parent)
            writer(target)
            sync(target)
        sync(target.parent)

    def publish(self, source: str, target: str) -> None:
        temporary = self.root / f".{target}.{secrets.token_hex(6)}"
        try:
            _link_or_copy(self.root / source, temporary)
            temporary.replace(self.root / target)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)  # replacing a file with itself leaves both names
        sync(self.root)

    def files(self, folder: str) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        for entry in self._scan(folder):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                found.append((joined(folder, entry.name), entry.stat().st_size))
        return sorted(found)

    def names(self, folder: str) -> list[str]:
        return [joined(folder, entry.name) for entry in self._scan(folder)]

    def versions(self, folder: str) -> None:  # noqa: ARG002 - it is the same for all
        return None

    def _scan(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.root / folder) as entries:
                return [entry for entry in entries if entry.is_file()]
        except FileNotFoundError:
            return []

    def folders(self) -> list[str]:
        try:
            return sorted(path.name for path in self.root.iterdir() if path.is_dir())
        except FileNotFoundError:
            return []

    def delete(self, path: str) -> None:
        (self.root / path).unlink(missing_ok=True)

    def _write_temporary(self, target: Path, content: bytes) -> Path:
        _make_folder(target.parent)
        temporary = target.parent / f".{target.name}.{secrets.token_hex(6)}"
        with _removed_if_it_fails(temporary), temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return temporary


@contextlib.contextmanager
def _removed_if_it_fails(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise


def joined(folder: str, name: str) -> str:
    """The path of ``name`` in a folder of a storage; "" is the storage itself."""
    return f"{folder}/{name}" if folder else name


def _read(path: str) -> bytes | None:
    """As ``Path.read_bytes``, at a third of its cost: there may be a million files."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    parts = []
    try:
        while part := os.read(file, _READ_AT_ONCE):
            parts.append(part)
    finally:
        os.close(file)
    return b"".join(parts)


def _name_if_free(temporary: Path, target: Path) -> None:
    """Give the file its final name. Raises FileExistsError, changing nothing, if it exists."""
    try:
        os.link(temporary, target)
    except OSError as e:
        if e.errno not in _NO_LINKS:
            raise
        _rename_if_free(temporary, target)


def _rename_if_free(source: Path, target: Path) -> None:
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        number = errno.ENOSYS
    else:
        names = os.fsencode(source), os.fsencode(target)
        if rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS):  # the file system does not support the flag
        number, reason = errno.ENOTSUP, "no hard links there, and no renaming without replacing"
    else:
        reason = os.strerror(number)
    raise OSError(number, reason, str(target))


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as e:
        if e.errno not in _NO_LINKS:
            raise
        with source.open("rb") as whole, target.open("xb") as copy:
            shutil.copyfileobj(whole, copy)
            copy.flush()
            os.fsync(copy.fileno())


def _make_folder(folder: Path) -> None:
    """Create it with its parents; each survives a power cut."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Make a file's content, or a folder's names, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)
