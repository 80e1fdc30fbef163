"""A prefix on an object store, through fsspec, with the few operations of ``Storage``."""

from __future__ import annotations

import contextlib
import errno
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import fsspec

from pipeline.errors import UsageError
from pipeline.storage.local import joined
from pipeline.storage.transient_errors import os_errors

_AT_ONCE = 64  # requests; botocore's default is 10 connections
_PRECONDITION_FAILED = 412
# botocore's; its long default user agent makes up a tenth of the cost of a small object
_CONFIG = {"max_pool_connections": _AT_ONCE, "user_agent": "rackmill"}


class ObjectStorage:
    """S3 and similar stores, and memory: all that can create an object only if it does not exist.

    All methods raise OSError, whatever their libraries raise.
    """

    def __init__(self, address: str) -> None:
        """Raises UsageError for an address that fsspec cannot open."""
        self._address = address.rstrip("/")
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self._address, **_options(address))
        except (ValueError, ImportError) as e:
            raise UsageError(f"output.path {address}: {e}") from e
        # otherwise s3fs would request the size before the content
        self._at_once = {"max_concurrency": 1} if _is_s3(address) else {}

    def address(self, path: str = "") -> str:
        return f"{self._address}/{path}" if path else self._address

    def _key(self, path: str) -> str:
        return f"{self._root}/{path}" if path else str(self._root)

    def read(self, path: str) -> bytes | None:
        with _os_errors():
            try:
                content: bytes = self._fs.cat_file(self._key(path), **self._at_once)
                return content
            except FileNotFoundError:
                return None

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        options = {"batch_size": _AT_ONCE, **self._at_once} if self._fs.async_impl else {}
        keys = [self._key(path) for path in paths]
        with _os_errors():
            contents = self._fs.cat_ranges(keys, None, None, on_error="return", **options)
            for place, content in enumerate(contents):
                if isinstance(content, FileNotFoundError):
                    contents[place] = None
                elif isinstance(content, Exception):
                    raise content
        return list(contents)

    def open(self, path: str) -> BinaryIO:
        with _os_errors():
            file: BinaryIO = self._fs.open(self._key(path), "rb")
            return file

    def create(self, path: str, content: bytes) -> bool:
        with _os_errors():
            try:
                self._fs.pipe_file(self._key(path), content, mode="create")
            except OSError as e:
                if isinstance(e, FileExistsError) or _status(e) == _PRECONDITION_FAILED:
                    return False
                raise
        return True

    def replace(self, path: str, content: bytes) -> None:
        with _os_errors():
            self._fs.pipe_file(self._key(path), content)

    def write(self, path: str, writer: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory(prefix="rackmill-") as folder:
            local = Path(folder) / "attempt"
            writer(local)
            with _os_errors():
                self._fs.put_file(str(local), self._key(path))

    def publish(self, source: str, target: str) -> None:
        with _os_errors():
            self._fs.cp_file(self._key(source), self._key(target))

    def files(self, folder: str) -> list[tuple[str, int]]:
        return sorted(
            (joined(folder, name), int(entry["size"] or 0))
            for name, entry in self._entries(folder, "file")
        )

    def names(self, folder: str) -> list[str]:
        return [path for path, _ in self.files(folder)]

    def versions(self, folder: str) -> dict[str, str] | None:
        return {
            joined(folder, name): str(entry.get("ETag") or entry.get("etag") or "")
            for name, entry in self._entries(folder, "file")
        }

    def folders(self) -> list[str]:
        return sorted(name for name, _ in self._entries("", "directory"))

    def _entries(self, folder: str, kind: str) -> list[tuple[str, dict[str, Any]]]:
        with _os_errors():
            self._fs.invalidate_cache(self._key(folder))
            try:
                entries: list[dict[str, Any]] = self._fs.ls(self._key(folder), detail=True)
            except FileNotFoundError:
                return []
            finally:  # otherwise we would not see what others create from now on
                self._fs.invalidate_cache(self._key(folder))
        named = [(str(e["name"]).rstrip("/").rsplit("/", 1)[-1], e) for e in entries]
        return [(name, e) for name, e in named if name and e["type"] == kind]

    def delete(self, path: str) -> None:
        with _os_errors(), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._key(path))


def _is_s3(address: str) -> bool:
    return address.partition("://")[0] in ("s3", "s3a")


def _options(address: str) -> dict[str, Any]:
    """Options for a file system of this kind, on top of the user's fsspec settings."""
    if not _is_s3(address):
        return {}
    given = fsspec.config.conf.get(address.partition("://")[0], {}).get("config_kwargs", {})
    return {"config_kwargs": _CONFIG | given}


@contextlib.contextmanager
def _os_errors() -> Iterator[None]:
    """Raise an OSError with a number for any error of a file system or its library."""
    try:
        with os_errors():
            yield
    except OSError as e:
        if type(e) is not OSError or e.errno is not None:
            raise
        raise OSError(errno.EIO, str(e)) from e
    except NotImplementedError as e:
        raise OSError(errno.ENOTSUP, str(e) or "not supported there") from e
    except ValueError as e:  # a name that the store does not allow
        raise OSError(errno.EINVAL, str(e)) from e


def _status(error: OSError) -> int | None:
    """The status of the HTTP response behind a botocore error."""
    response = getattr(error.__cause__, "response", None)
    if not isinstance(response, dict):
        return None
    status: int | None = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status
