"""Which job an output folder belongs to; takes it over, starts it over and renumbers its files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.errors import JobFailed, UsageError
from pipeline.job.fingerprint import without_gold
from pipeline.output.commit.records import (
    ANSWERS,
    ATTEMPTS,
    CANCEL,
    CLEARING,
    COMMITS,
    JOB,
    LOGS,
    MANIFEST,
    OUTPUT_NAME,
    PACKS,
    RUNS,
    STATE,
    SUCCESS,
    SUMMARY,
    CommitRecord,
    CommitState,
    record_path,
)
from pipeline.printable import json_safe
from pipeline.storage.base import Storage, check_exclusive

_AT_ONCE = 8  # files deleted or written at the same time


class OutputFolder:
    """One run's output folder as a whole."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def manifest(self) -> dict[str, Any] | None:
        """The manifest: which job the folder belongs to; None for a new one. Raises UsageError."""
        content = self.storage.read(MANIFEST)
        if content is None:
            return None
        found = _parsed(content)
        if found is None:
            where = self.storage.address(MANIFEST)
            raise UsageError(f"{where} is damaged", "start over with --fresh")
        return found

    def job(self) -> dict[str, Any] | None:
        """The content of the job file of the last takeover, if it is there."""
        return _parsed(self.storage.read(JOB))

    def summary(self) -> dict[str, Any] | None:
        """The summary of the last run that ended, if it is there."""
        return _parsed(self.storage.read(SUMMARY))

    @property
    def finished(self) -> bool:
        """Whether a run has finished the dataset."""
        return self.storage.read(SUCCESS) is not None

    def told(self, state: CommitState) -> bool:
        """Whether the existing summary covers all that ``state`` holds."""
        if not self.finished:
            return False
        found = self.summary()
        return found is not None and found.get("generation", 0) == state.generation

    def reopen(self) -> None:
        """Mark the dataset as not finished, before units are added."""
        self.storage.delete(SUCCESS)

    def take_over(self, manifest: Mapping[str, Any]) -> None:
        """Make the folder this job's. Raises UsageError when it belongs to another job."""
        if self.storage.read(MANIFEST) is None:
            check_exclusive(self.storage, STATE)
        if not self.storage.create(MANIFEST, as_json(manifest)):
            self.check(manifest)

    def describe(self, manifest: Mapping[str, Any], job: Mapping[str, Any]) -> None:
        """Note what has changed in the folder's job: its input, its number of rows."""
        self._note(MANIFEST, manifest)
        self.keep_job(job)

    def keep_job(self, job: Mapping[str, Any]) -> None:
        """Note what has changed in the folder's job, except its input."""
        self._note(JOB, job)

    def _note(self, path: str, content: Mapping[str, Any]) -> None:
        encoded = as_json(content)
        if self.storage.read(path) != encoded:
            self.storage.replace(path, encoded)

    def check(self, manifest: Mapping[str, Any]) -> None:
        """Raise UsageError if the folder belongs to another job, or holds files of no job.

        The input may have changed since: the plan deals with that.
        """
        where = self.storage.address()
        fresh = "" if self.foreign_files() else ", or start over with --fresh"
        fix = f"give another --output{fresh}"
        found = self.manifest()
        if found is None:
            strange = [name for name in self._names() if not name.startswith(("_", "."))]
            if strange:
                raise UsageError(f"{where} already holds files ({strange[0]}, …)", fix)
            return
        theirs, ours = found.get("parts"), manifest["parts"]
        theirs = without_gold(theirs if isinstance(theirs, dict) else {})
        names = sorted((set(theirs) | set(ours)) - {"input"})
        changed = [k for k in names if theirs.get(k) != ours.get(k)]
        if changed:
            what = ", ".join(changed)
            raise UsageError(f"{where} holds the output of a different job: {what} changed", fix)

    def foreign_files(self) -> list[str]:
        """Files that rackmill did not write, but that readers would treat as data."""
        return [
            name
            for name in self._names()
            if not name.startswith(("_", ".")) and not OUTPUT_NAME.fullmatch(name)
        ]

    def _names(self) -> list[str]:
        return [path for path, _ in self.storage.files("")] + self.storage.folders()

    @property
    def half_cleared(self) -> bool:
        """Whether starting over has begun here and not ended: until then nothing here counts."""
        return self.storage.read(CLEARING) is not None

    def clear(self) -> None:
        """Delete everything rackmill wrote here. Raises UsageError if the folder holds more."""
        foreign = self.foreign_files()
        if foreign:
            raise UsageError(
                f"--fresh: {self.storage.address(foreign[0])} is not rackmill's to delete",
                "give another --output",
            )
        state_files = [path for path, _ in self.storage.files(STATE)]
        if state_files:
            self.storage.replace(CLEARING, b"")
        self.storage.delete(SUCCESS)
        # published files, and temporary files of publishing
        self.delete_all(p for p, _ in self.storage.files("") if OUTPUT_NAME.search(p))
        for folder in (ATTEMPTS, ANSWERS, PACKS, COMMITS, RUNS, LOGS):
            self.delete_all(path for path, _ in self.storage.files(folder))
        self.delete_all(path for path in state_files if path not in (CLEARING, CANCEL))
        if state_files:
            self.storage.delete(CLEARING)

    def delete_all(self, paths: Iterable[str]) -> None:
        """Remove files; missing ones count as removed."""
        wanted = list(paths)
        if wanted:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(self.storage.delete, wanted))

    def discard(self, *records: CommitRecord) -> None:
        """Take back results of units: their rows are gone, or will be part of other units."""
        self.delete_all(record.file for record in records)
        self.delete_all(
            record_path(record.unit, generation)
            for record in records
            for generation in range(record.generation, -1, -1)
        )

    def forget_cuts(self, units: Iterable[str]) -> None:
        """Forget where these units were cut: the units no longer exist."""
        self.delete_all(record_path(unit, 0) for unit in units)

    def move(self, moves: Sequence[tuple[CommitRecord, str]]) -> None:
        """Give committed units other file names: their shards have other numbers now.

        First all the files are hidden, then the records get the new names, then ``recover``
        publishes them: so no row is ever visible twice, and after a crash at any moment the same
        call continues.
        """
        if not moves:
            return
        present = dict(self.storage.files(""))
        attempts = {path for path, _ in self.storage.files(ATTEMPTS)}

        def keep(record: CommitRecord) -> None:
            if record.attempt_path in attempts:
                return
            if present.get(record.file) != record.size:
                raise self.gone(record)
            self.storage.write(record.attempt_path, lambda local: self._copy(record.file, local))

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda move: keep(move[0]), moves))
            list(pool.map(lambda move: self.storage.delete(move[0].file), moves))
            list(pool.map(lambda move: self._rename(*move), moves))

    def _copy(self, path: str, target: Path) -> None:
        with self.storage.open(path) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)

    def _rename(self, record: CommitRecord, file: str) -> None:
        self.storage.replace(record.path, replace(record, file=file).encode())

    def gone(self, record: CommitRecord) -> JobFailed:
        """The error for a result that is missing."""
        where = self.storage.address(record.file)
        paths = [record_path(record.unit, g) for g in range(record.generation + 1)]
        names = " and ".join(self.storage.address(path) for path in paths)
        return JobFailed(
            f"{where} was committed, but is gone or has another size",
            f"remove {names} to redo it",
        )


def as_json(content: Mapping[str, Any]) -> bytes:
    """The JSON format of all files beside a dataset. File names may be any bytes: those that are
    no text are escaped as JSON does it."""
    return json_safe(json.dumps(content, indent=1, ensure_ascii=False)).encode()


def _parsed(content: bytes | None) -> dict[str, Any] | None:
    with suppress(ValueError, RecursionError):
        found = json.loads(content) if content is not None else None
        return found if isinstance(found, dict) else None
    return None
