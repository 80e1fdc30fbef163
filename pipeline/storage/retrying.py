"""Storage that fails now and then, made to look as if it did not.

Every operation here may be done twice: reading and listing anyway, writing because no one else
uses the name or because the same content comes out, creating because what is there is compared
with what was to be created. So a lost answer does not look like a lost race.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from pipeline.errors import CommitFailed, CommitStateUnknown, StorageFailed
from pipeline.storage.transient_errors import PATIENCE_SECONDS, fix, passes, patiently, reason

if TYPE_CHECKING:
    from pipeline.storage.base import Storage

T = TypeVar("T")
_FIRST_CONTACT_SECONDS = 2.0


class PatientStorage:
    """Tries again what may pass; what does not becomes an error that says how to fix it.

    A store that has never answered is waited for a few seconds only: it may be misspelt.
    """

    def __init__(self, inner: Storage, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.inner = inner
        self._patience = patience_seconds
        self._answered = False

    def address(self, path: str = "") -> str:
        return self.inner.address(path)

    def read(self, path: str) -> bytes | None:
        return self._read(path, lambda: self.inner.read(path))

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        return self._read(paths[0], lambda: self.inner.read_many(paths)) if paths else []

    def open(self, path: str) -> BinaryIO:
        return self._read(path, lambda: self.inner.open(path))

    def create(self, path: str, content: bytes) -> bool:
        tries = 0

        def once() -> bool:
            nonlocal tries
            tries += 1
            return self.inner.create(path, content)

        where = self.address(path)
        try:
            created = self._try(once)
        except OSError as e:
            if tries > 1 or passes(e):
                told = f"{where}: storage did not say whether it was created: {reason(e)}"
                raise CommitStateUnknown(told, fix(e)) from e
            raise CommitFailed(f"{where} cannot be written: {reason(e)}", fix(e)) from e
        try:
            # where it is there already, the content says whether an earlier try made it
            return created or self._try(lambda: self.inner.read(path)) == content
        except OSError as e:
            told = f"{where} is there, but cannot be read: {reason(e)}"
            raise CommitStateUnknown(told, fix(e)) from e

    def replace(self, path: str, content: bytes) -> None:
        self._write(path, lambda: self.inner.replace(path, content))

    def write(self, path: str, writer: Callable[[Path], None]) -> None:
        self._write(path, lambda: self.inner.write(path, writer))

    def publish(self, source: str, target: str) -> None:
        self._change(target, lambda: self.inner.publish(source, target))

    def files(self, folder: str) -> list[tuple[str, int]]:
        return self._read(folder, lambda: self.inner.files(folder))

    def names(self, folder: str) -> list[str]:
        return self._read(folder, lambda: self.inner.names(folder))

    def versions(self, folder: str) -> dict[str, str] | None:
        return self._read(folder, lambda: self.inner.versions(folder))

    def folders(self) -> list[str]:
        return self._read("", self.inner.folders)

    def delete(self, path: str) -> None:
        self._change(path, lambda: self.inner.delete(path))

    def _try(self, call: Callable[[], T]) -> T:
        patience = self._patience
        if not self._answered:
            patience = min(patience, _FIRST_CONTACT_SECONDS)
        result = patiently(call, patience)
        self._answered = True
        return result

    def _read(self, path: str, call: Callable[[], T]) -> T:
        try:
            return self._try(call)
        except FileNotFoundError:
            raise  # an answer
        except OSError as e:
            told = f"{self.address(path)} cannot be read: {reason(e)}"
            raise StorageFailed(told, fix(e)) from e

    def _write(self, path: str, call: Callable[[], None]) -> None:
        try:
            self._try(call)
        except OSError as e:
            told = f"{self.address(path)} cannot be written: {reason(e)}"
            raise CommitFailed(told, fix(e)) from e

    def _change(self, path: str, call: Callable[[], None]) -> None:
        """What is committed or given up: to say that nothing was committed would be wrong."""
        try:
            self._try(call)
        except FileNotFoundError:
            raise  # an answer
        except OSError as e:
            told = f"{self.address(path)} cannot be changed: {reason(e)}"
            raise StorageFailed(told, fix(e)) from e
