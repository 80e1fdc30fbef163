"""Storage with occasional failures, made to look as if it had none.

Every operation here may be repeated: reading and listing always, writing because no one else uses
the name or because the content is the same, creating because the existing content is compared with
what was to be created. So a lost answer does not look like a lost race.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from pipeline.errors import CommitFailed, CommitStateUnknown, JobFailed, StorageFailed
from pipeline.storage.transient_errors import PATIENCE_SECONDS, fix, passes, patiently, reason

if TYPE_CHECKING:
    from pipeline.storage.base import Storage

T = TypeVar("T")
_FIRST_CONTACT_SECONDS = 2.0


class PatientStorage:
    """Retries transient errors; a lasting one becomes an error that says how to fix it.

    A store that has never answered gets only a few seconds: its name may be misspelt.
    """

    def __init__(self, inner: Storage, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.inner = inner
        self._patience = patience_seconds
        self._answered = False

    def with_patience(self, most_seconds: float) -> PatientStorage:
        """The same storage, with at most so much patience."""
        return PatientStorage(self.inner, min(self._patience, most_seconds))

    def address(self, path: str = "") -> str:
        return self.inner.address(path)

    def read(self, path: str) -> bytes | None:
        return self._do(path, lambda: self.inner.read(path))

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        return self._do(paths[0], lambda: self.inner.read_many(paths)) if paths else []

    def open(self, path: str) -> BinaryIO:
        return self._do(path, lambda: self.inner.open(path))

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
            # if it exists already, its content says whether an earlier try created it
            return created or self._try(lambda: self.inner.read(path)) == content
        except OSError as e:
            told = f"{where} is there, but cannot be read: {reason(e)}"
            raise CommitStateUnknown(told, fix(e)) from e

    def replace(self, path: str, content: bytes) -> None:
        self._do(path, lambda: self.inner.replace(path, content), "written", CommitFailed)

    def write(self, path: str, writer: Callable[[Path], None]) -> None:
        self._do(path, lambda: self.inner.write(path, writer), "written", CommitFailed)

    # no "nothing was committed" in these errors: that is wrong for what is committed or given up
    def publish(self, source: str, target: str) -> None:
        self._do(target, lambda: self.inner.publish(source, target), "changed")

    def delete(self, path: str) -> None:
        self._do(path, lambda: self.inner.delete(path), "changed")

    def files(self, folder: str) -> list[tuple[str, int]]:
        return self._do(folder, lambda: self.inner.files(folder))

    def names(self, folder: str) -> list[str]:
        return self._do(folder, lambda: self.inner.names(folder))

    def versions(self, folder: str) -> dict[str, str] | None:
        return self._do(folder, lambda: self.inner.versions(folder))

    def folders(self) -> list[str]:
        return self._do("", self.inner.folders)

    def _try(self, call: Callable[[], T]) -> T:
        patience = self._patience
        if not self._answered:
            patience = min(patience, _FIRST_CONTACT_SECONDS)
        result = patiently(call, patience)
        self._answered = True
        return result

    def _do(
        self,
        path: str,
        call: Callable[[], T],
        what: str = "read",
        error: type[JobFailed] = StorageFailed,
    ) -> T:
        try:
            return self._try(call)
        except OSError as e:
            if isinstance(e, FileNotFoundError) and error is StorageFailed:
                raise  # an answer
            told = f"{self.address(path)} cannot be {what}: {reason(e)}"
            raise error(told, fix(e)) from e
