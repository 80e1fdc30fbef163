"""The output folder: a dataset any Parquet reader opens, and beside it the truth about a run.

    OUTPUT/00000-000000000000.parquet     committed rows, one file per unit, in input order
    OUTPUT/_SUCCESS                        written last, when every unit is there
    OUTPUT/_rackmill/manifest.json         what job this is; created once
    OUTPUT/_rackmill/commits/UNIT.json     the commit records: who reads state reads these
    OUTPUT/_rackmill/attempts/…            attempts, until they are committed or swept away
    OUTPUT/_rackmill/answers/…             answers for duplicate rows, until the job is done
    OUTPUT/_rackmill/summary.json, report.md

A unit becomes committed in one step, the exclusive creation of its commit record, which names
one attempt. Where the end of a unit was handed to another worker, its record says where it was
cut instead, and its two parts have records of their own: so each row has one place whoever
writes, workers that were thought dead included. Only a committed attempt is published under the
unit's final name, so whoever reads the folder, at any moment and after any crash, never sees a row
twice. Parquet readers pass over names that begin with ``_``.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import secrets
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.storage import Storage
from pipeline.data.tally import Tally
from pipeline.data.units import Unit
from pipeline.errors import JobFailed, UsageError

STATE = "_rackmill"
MANIFEST = f"{STATE}/manifest.json"
COMMITS = f"{STATE}/commits"
ATTEMPTS = f"{STATE}/attempts"
ANSWERS = f"{STATE}/answers"
SUMMARY = f"{STATE}/summary.json"
REPORT = f"{STATE}/report.md"
SUCCESS = "_SUCCESS"
_READERS, _RECORDS = 8, 64  # threads, and what one of them reads at a time
OUTPUT_NAME = re.compile(r"\d{5}-\d{12}\.parquet")


@dataclass(frozen=True)
class CommitRecord:
    """Which attempt is the unit's result, and what is in it. ``size`` in bytes."""

    unit: str
    attempt: str
    file: str
    size: int
    sha256: str
    tally: Tally

    @property
    def span(self) -> tuple[int, int, int]:
        """Shard, first row and the row after the last."""
        shard, _, start = self.file.removesuffix(".parquet").partition("-")
        return int(shard), int(start), int(start) + self.tally.rows

    def encode(self) -> bytes:
        return json.dumps(vars(self) | {"tally": self.tally.as_json()}, indent=1).encode()

    @classmethod
    def decode(cls, content: bytes) -> CommitRecord:
        return cls.from_json(json.loads(content))

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> CommitRecord:
        return cls(**fields | {"tally": Tally.from_json(fields["tally"])})

    @property
    def attempt_path(self) -> str:
        return f"{ATTEMPTS}/{self.unit}-{self.attempt}.parquet"


@dataclass(frozen=True)
class _Cut:
    """The record of a unit that was cut before row ``cut`` of its shard."""

    unit: str
    cut: int


class UnitIsCut(Exception):
    """The unit is no more: it was cut before row ``at`` of its shard."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


@dataclass(frozen=True)
class State:
    """What the records say: results by unit, and where units were cut (a row of the shard)."""

    commits: Mapping[str, CommitRecord]
    cuts: Mapping[str, int]


class Dataset:
    """One run's output folder."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._cuts: dict[str, int] = {}  # those seen: a cut is for ever

    def manifest(self) -> dict[str, Any] | None:
        """What job the folder belongs to; None for a new folder. Raises UsageError."""
        content = self.storage.read(MANIFEST)
        try:
            return None if content is None else json.loads(content)
        except ValueError:
            where = self.storage.address(MANIFEST)
            raise UsageError(f"{where} is damaged", "start over with --fresh") from None

    def claim(self, manifest: Mapping[str, Any]) -> None:
        """Make the folder this job's. Raises UsageError when it is another's."""
        content = json.dumps(manifest, indent=1, ensure_ascii=False).encode()
        if not self.storage.create(MANIFEST, content):
            self.check(manifest)

    def check(self, manifest: Mapping[str, Any]) -> None:
        """Raise UsageError if the folder belongs to another job, or holds files of no job."""
        where = self.storage.address()
        mend = "give another --output, or start over with --fresh"
        found = self.manifest()
        if found is None:
            names = [path for path, _ in self.storage.files("")] + self.storage.folders()
            strange = [name for name in names if not name.startswith(("_", "."))]
            if strange:
                raise UsageError(f"{where} already holds files ({strange[0]}, …)", mend)
            return
        if found.get("fingerprint") == manifest["fingerprint"]:
            return
        theirs, ours = found.get("parts", {}), manifest["parts"]
        changed = [k for k in sorted(set(theirs) | set(ours)) if theirs.get(k) != ours.get(k)]
        what = ", ".join(changed) or "its settings"
        raise UsageError(f"{where} holds the output of a different job: {what} changed", mend)

    def foreign_files(self) -> list[str]:
        """Files that rackmill did not write, but readers would take for data."""
        names = [path for path, _ in self.storage.files("")] + self.storage.folders()
        return [n for n in names if not n.startswith(("_", ".")) and not OUTPUT_NAME.fullmatch(n)]

    def clear(self) -> None:
        """Forget everything rackmill wrote here. Raises UsageError if the folder holds more."""
        foreign = self.foreign_files()
        if foreign:
            raise UsageError(
                f"--fresh: {self.storage.address(foreign[0])} is not rackmill's to delete",
                "give another --output",
            )
        self.storage.delete(SUCCESS)
        for path, _ in self.storage.files(""):  # data before the records that name it
            if OUTPUT_NAME.search(path):  # published files, and the temporaries of publishing
                self.storage.delete(path)
        for folder in (ATTEMPTS, ANSWERS, COMMITS, STATE):
            for path, _ in self.storage.files(folder):
                self.storage.delete(path)

    def discard(self, record: CommitRecord) -> None:
        """Take a unit's result back: its rows are about to be part of another unit."""
        self.storage.delete(record.file)
        self.storage.delete(f"{COMMITS}/{record.unit}.json")

    def records(self) -> dict[str, CommitRecord]:
        """Every commit record, by unit id. Raises JobFailed on one that cannot be read."""
        return dict(self.state().commits)

    def state(self) -> State:
        """All that is committed. Raises JobFailed on a record that cannot be read."""
        commits: dict[str, CommitRecord] = {}
        cuts: dict[str, int] = {}
        names = [path for path, _ in self.storage.files(COMMITS)]
        chunks = [names[i : i + _RECORDS] for i in range(0, len(names), _RECORDS)]
        with ThreadPoolExecutor(_READERS) as pool:
            for records in pool.map(lambda chunk: [self._record(p) for p in chunk], chunks):
                for record in records:
                    if isinstance(record, CommitRecord):
                        commits[record.unit] = record
                    elif record is not None:
                        cuts[record.unit] = record.cut
        return State(commits, cuts)

    def _record(self, path: str) -> CommitRecord | _Cut | None:
        """None for the temporary of a record that is being written."""
        if path.rsplit("/", 1)[-1].startswith("."):
            return None
        try:
            content = self.storage.read(path) or b""
            fields = json.loads(content)
            return _Cut(**fields) if "cut" in fields else CommitRecord.from_json(fields)
        except (ValueError, TypeError, KeyError):
            where = self.storage.address(path)
            raise JobFailed(f"{where} is damaged", "remove it to redo its rows") from None

    def cut(self, unit: Unit, at: int) -> CommitRecord | int:
        """Have ``unit`` cut before row ``at`` of its shard, unless it is cut or committed already.

        Returns where it is cut, or the record of its result. Raises as ``commit`` does.
        """
        known = self._cuts.get(unit.id)
        if known is not None:
            return known
        path = f"{COMMITS}/{unit.id}.json"
        found = self._record(path) if self.storage.read(path) is not None else None
        if found is None:
            content = json.dumps({"unit": unit.id, "cut": at}).encode()
            found = _Cut(unit.id, at) if self.storage.create(path, content) else self._record(path)
        if isinstance(found, CommitRecord):
            return found
        assert found is not None
        self._cuts[unit.id] = found.cut
        return found.cut

    def commit(
        self, unit: Unit, table: pa.Table, tally: Tally, provenance: Mapping[str, str]
    ) -> CommitRecord:
        """Make ``table`` the result of ``unit``, unless another attempt already is.

        Returns the record that holds, this attempt's or the earlier one's. Raises CommitFailed
        (nothing happened) or CommitStateUnknown (nothing was deleted), and UnitIsCut when the
        unit was cut meanwhile.
        """
        attempt = secrets.token_hex(8)
        path = f"{ATTEMPTS}/{unit.id}-{attempt}.parquet"
        facts: dict[str, Any] = {}

        def write(local: Path) -> None:
            metadata = {f"rackmill.{k}": v for k, v in provenance.items()}
            pq.write_table(table.replace_schema_metadata(metadata), local, compression="zstd")
            with local.open("rb") as file:
                facts["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
            facts["size"] = local.stat().st_size

        self.storage.write(path, write)
        record = CommitRecord(unit.id, attempt, unit.file_name, tally=tally, **facts)
        record_path = f"{COMMITS}/{unit.id}.json"
        if not self.storage.create(record_path, record.encode()):
            earlier = self._record(record_path)
            if isinstance(earlier, _Cut):
                self.storage.delete(path)
                raise UnitIsCut(earlier.cut)
            assert earlier is not None
            if earlier.attempt != attempt:  # else the store repeated our own success
                self.storage.delete(path)
                return earlier
        self._publish(record)
        return record

    def _publish(self, record: CommitRecord) -> None:
        self.storage.publish(record.attempt_path, record.file)
        self.storage.delete(record.attempt_path)

    def recover(self, records: Iterable[CommitRecord]) -> None:
        """Publish what a crash left committed but not yet visible. Raises JobFailed."""
        present = dict(self.storage.files(""))
        attempts = {path for path, _ in self.storage.files(ATTEMPTS)}
        for record in records:
            if present.get(record.file) == record.size:
                continue
            if record.attempt_path not in attempts:
                where = self.storage.address(record.file)
                raise JobFailed(
                    f"{where} was committed, but is gone or has another size",
                    f"remove {self.storage.address(f'{COMMITS}/{record.unit}.json')} to redo it",
                )
            self._publish(record)

    def reopen(self) -> None:
        """Units are about to be added: the dataset is not finished."""
        self.storage.delete(SUCCESS)

    @property
    def finished(self) -> bool:
        """Whether a run has come to its end here."""
        return self.storage.read(SUCCESS) is not None

    def first_rows(self, count: int) -> list[dict[str, Any]]:
        """The first ``count`` rows of the dataset, as plain data."""
        rows: list[dict[str, Any]] = []
        for path, _ in self.storage.files(""):
            if path.endswith(".parquet") and len(rows) < count:
                content = self.storage.read(path) or b""
                rows += pq.read_table(io.BytesIO(content)).slice(0, count - len(rows)).to_pylist()
        return rows

    def finish(self, summary: Mapping[str, Any], report: str) -> None:
        """All units are committed: sweep up what only workers need, write summary, report and
        marker."""
        for folder in (ATTEMPTS, ANSWERS):
            for path, _ in self.storage.files(folder):
                self.storage.delete(path)
        text = json.dumps(summary, indent=1, ensure_ascii=False)
        self.storage.replace(SUMMARY, text.encode())
        self.storage.replace(REPORT, report.encode())
        self.storage.replace(SUCCESS, b"")
