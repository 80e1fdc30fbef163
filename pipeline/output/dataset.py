"""The output folder: a dataset for any Parquet reader, and beside it the state of a run.

    OUTPUT/00000-000000000000.parquet     committed rows, one file per unit, in input order
    OUTPUT/_SUCCESS                        written last, when every unit is there
    OUTPUT/_rackmill/manifest.json         which job this is, over which input
    OUTPUT/_rackmill/job.json              the job itself, for `retry`
    OUTPUT/_rackmill/commits/UNIT.json     the commit records: they define the state
    OUTPUT/_rackmill/commits/UNIT.1.json   a later generation: error rows that were done again, or
                                           labels that right answers changed
    OUTPUT/_rackmill/attempts/…            attempts, until they are committed or deleted
    OUTPUT/_rackmill/answers/…             answers for duplicate rows, until the job is done
    OUTPUT/_rackmill/shared_rows/…         of different engines: their answers to the same few rows
    OUTPUT/_rackmill/runs/RUN.json         which runs work, or worked, here
    OUTPUT/_rackmill/trust.json            how good the labels are, by right answers
    OUTPUT/_rackmill/summary.json, report.md, report.html

A unit is committed in one step, the exclusive creation of its commit record, which names one
attempt. If the end of a unit was given to another worker, the record says instead where the unit
was cut, and its two parts have their own records: each row has one place, whichever worker writes
it, even one that was thought dead. Only a committed attempt is published under the unit's final
name, so a reader of the folder never sees a row twice, at any moment and after any crash. Parquet
readers skip names that begin with ``_``.

Of several generations of a unit the highest counts. The records of earlier ones stay, so no late
worker can commit an earlier generation again.
"""

from __future__ import annotations

import hashlib
import io
import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import CommitFailed, JobFailed
from pipeline.input.plain import plain_rows
from pipeline.input.units import Unit
from pipeline.output.commit.packed_records import record_contents
from pipeline.output.commit.records import (
    ANSWERS,
    ATTEMPTS,
    COMMITS,
    LOGS,
    PAGE,
    REPORT,
    SUCCESS,
    SUMMARY,
    CommitRecord,
    CommitState,
    Cut,
    UnitIsCut,
    attempt_path,
    decode,
    hopeless_attempts,
    is_temporary,
    record_path,
)
from pipeline.output.folder import OutputFolder, as_json
from pipeline.output.tally import Tally
from pipeline.rows.large_tables import in_own_memory, pieces
from pipeline.storage.base import Storage
from pipeline.storage.read_many import growing

_AT_ONCE = 8  # files published at the same time
_GENERATIONS = 100  # tried one after the other, while others retry the same unit
Change = Callable[[CommitRecord, pa.Table], tuple[pa.Table, Tally] | None]


class Dataset(OutputFolder):
    """One run's output folder, and the units in it."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self._cuts: dict[str, int] = {}  # cuts seen so far: a cut is permanent

    def records(self) -> dict[str, CommitRecord]:
        """Every unit's commit record, by unit id. Raises JobFailed if one cannot be read."""
        return dict(self.state().commits)

    def state(self, damaged: list[str] | None = None) -> CommitState:
        """All that is committed. If a record cannot be read, its path is added to ``damaged``;
        raises JobFailed without that list."""
        commits: dict[str, CommitRecord] = {}
        cuts: dict[str, int] = {}
        with growing():
            for path, content in record_contents(self.storage):
                try:
                    record = self._parse(path, content)
                except JobFailed:
                    if damaged is None:
                        raise
                    damaged.append(path)
                    continue
                if isinstance(record, CommitRecord):
                    commits[record.unit] = record
                else:
                    cuts[record.unit] = record.cut
        return CommitState(commits, cuts)

    def _record(self, path: str) -> CommitRecord | Cut:
        return self._parse(path, self.storage.read(path) or b"")

    def _parse(self, path: str, content: bytes) -> CommitRecord | Cut:
        try:
            return decode(content)
        except (ValueError, TypeError, KeyError, RecursionError):
            where = self.storage.address(path)
            raise JobFailed(f"{where} is damaged", "remove it to redo its rows") from None

    def _found(self, unit: str, generation: int = 0) -> CommitRecord | Cut | None:
        """The unit's record of that generation, if it exists."""
        path = record_path(unit, generation)
        content = self.storage.read(path)
        return None if content is None else self._parse(path, content)

    def generation(self, record: CommitRecord, number: int) -> CommitRecord | None:
        """The record of another generation of the unit of ``record``, if it exists."""
        found = self._found(record.unit, number)
        return found if isinstance(found, CommitRecord) else None

    def newest(self, record: CommitRecord) -> CommitRecord:
        """The record that counts for the unit of ``record``, maybe a later one."""
        while True:
            later = self._found(record.unit, record.generation + 1)
            if not isinstance(later, CommitRecord):
                return record
            record = later

    # -- committing

    def cut(self, unit: Unit, at: int) -> CommitRecord | int:
        """Cut ``unit`` before row ``at`` of its shard, unless it is cut or committed already.

        Returns where it is cut, or the record of its result. Raises the same as ``commit``.
        """
        known = self._cuts.get(unit.id)
        if known is not None:
            return known
        found = self._found(unit.id)
        if found is None:
            path = record_path(unit.id, 0)
            content = json.dumps({"unit": unit.id, "cut": at}).encode()
            found = Cut(unit.id, at) if self.storage.create(path, content) else self._record(path)
        if isinstance(found, CommitRecord):
            return found
        self._cuts[unit.id] = found.cut
        return found.cut

    def commit(
        self, unit: Unit, table: pa.Table, tally: Tally, provenance: Mapping[str, str]
    ) -> CommitRecord:
        """Make ``table`` the result of ``unit``, unless the unit already has one.

        Returns the record that counts: of this attempt or the earlier one. Raises CommitFailed
        (nothing happened) or CommitStateUnknown (nothing was deleted), and UnitIsCut when the
        unit was cut meanwhile.
        """
        try:
            record = self._attempt(unit.id, unit.file_name, 0, table, tally, provenance)
        except (CommitFailed, FileNotFoundError):
            # another run may have committed the unit, ended, and deleted attempts that lost
            earlier = self._found(unit.id)
            if earlier is None:
                raise
        else:
            if self.storage.create(record.path, record.encode()):
                earlier = record
            else:
                earlier = self._record(record.path)
            if not isinstance(earlier, CommitRecord) or earlier.attempt != record.attempt:
                self.storage.delete(record.attempt_path)
            else:  # ours; the store may have repeated our own success
                self._publish_own(record, table, provenance)
        if isinstance(earlier, Cut):
            raise UnitIsCut(earlier.cut)
        assert earlier is not None
        return earlier

    def recommit(
        self, record: CommitRecord, change: Change, provenance: Mapping[str, str]
    ) -> CommitRecord:
        """Make the result of ``change`` the next generation of ``record``'s unit.

        ``change`` gets the newest record and its rows, and is called again if another worker's
        generation came first; it returns None if there is nothing to change. ``recover`` publishes
        the new generation when no worker runs any more, so an earlier one can never overwrite it.
        Raises the same as ``commit``.
        """
        for _ in range(_GENERATIONS):
            record = self.newest(record)
            changed = change(record, self.read_rows(record))
            if changed is None:
                return record
            table, tally = changed
            made = self._attempt(
                record.unit, record.file, record.generation + 1, table, tally, provenance
            )
            if self.storage.create(made.path, made.encode()):
                return made
            first = self._record(made.path)
            if isinstance(first, CommitRecord) and first.attempt == made.attempt:
                return made
            self.storage.delete(made.attempt_path)
        raise JobFailed(f"{self.storage.address(record.path)}: others change it all the time")

    def read_rows(self, record: CommitRecord, columns: list[str] | None = None) -> pa.Table:
        """The rows of ``record``; only ``columns`` of them (None: all). Raises JobFailed if they
        are missing or incomplete."""
        for path in (record.attempt_path, record.file):
            content = self.storage.read(path)
            if content is not None and hashlib.sha256(content).hexdigest() == record.sha256:
                return pq.read_table(io.BytesIO(content), columns=columns)
        raise self.gone(record)

    def _attempt(
        self,
        unit: str,
        file: str,
        generation: int,
        table: pa.Table,
        tally: Tally,
        provenance: Mapping[str, str],
    ) -> CommitRecord:
        """Write an attempt. Returns the record that would make it the unit's result."""
        attempt = secrets.token_hex(8)
        facts: dict[str, Any] = {}

        def write(local: Path) -> None:
            _write_table(table, local, provenance, tally)
            with local.open("rb") as content:
                facts["sha256"] = hashlib.file_digest(content, "sha256").hexdigest()
            facts["size"] = local.stat().st_size

        self.storage.write(attempt_path(unit, generation, attempt), write)
        return CommitRecord(unit, attempt, file, facts["size"], facts["sha256"], tally, generation)

    def _publish_own(
        self, record: CommitRecord, table: pa.Table, provenance: Mapping[str, str]
    ) -> None:
        try:
            self._publish(record)
        except FileNotFoundError:
            if dict(self.storage.files("")).get(record.file) == record.size:
                return  # another process found the record and published it for us
            if self._found(record.unit, record.generation) != record or (
                self._found(record.unit, record.generation + 1) is not None
            ):
                return  # replaced long ago
            # deleted between the two steps by a process that did not know the unit
            self.storage.write(
                record.attempt_path,
                lambda local: _write_table(table, local, provenance, record.tally),
            )
            self._publish(record)

    def _publish(self, record: CommitRecord) -> None:
        self.storage.publish(record.attempt_path, record.file)
        self.storage.delete(record.attempt_path)

    def recover(self, records: Iterable[CommitRecord]) -> None:
        """Publish what a crash left committed but not yet visible. Raises JobFailed.

        An attempt that its record names is the unit's result even if a file of the same size is
        published: the attempt is deleted only after it was published.
        """
        # in this order: another publisher deletes the attempt only after the file is there
        attempts = set(self.storage.names(ATTEMPTS))
        present = dict(self.storage.files(""))
        waiting: list[CommitRecord] = []
        for record in records:
            if record.attempt_path in attempts:
                waiting.append(record)
            elif present.get(record.file) != record.size:
                raise self.gone(record)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            published = list(pool.map(self._publish_waiting, waiting))
        if not all(published):  # then other processes did
            present = dict(self.storage.files(""))
            for record in waiting:
                if present.get(record.file) != record.size:
                    raise self.gone(record)

    def _publish_waiting(self, record: CommitRecord) -> bool:
        try:
            self._publish(record)
        except FileNotFoundError:
            return False
        return True

    def first_rows(self, count: int) -> list[dict[str, Any]]:
        """The first ``count`` rows of the dataset, as plain data."""
        rows: list[dict[str, Any]] = []
        for path, _ in self.storage.files(""):
            if path.endswith(".parquet") and len(rows) < count:
                content = self.storage.read(path) or b""
                table = pq.read_table(io.BytesIO(content)).slice(0, count - len(rows))
                rows += [row for row in plain_rows(table)[0] if row]
        return rows

    def finish(
        self,
        summary: Mapping[str, Any],
        report: str,
        state: CommitState | None = None,
        page: str | None = None,
    ) -> None:
        """All units are committed: delete what only workers need; write summary, reports and marker
        (``page``: the report as HTML). Attempts that could still win stay: another run may be
        working."""
        attempts = self.storage.names(ATTEMPTS)
        if attempts:
            self.delete_all(hopeless_attempts(attempts, state or self.state()))
        self.delete_all(self.storage.names(ANSWERS))
        for folder in ("", COMMITS, LOGS):  # files that a killed process was writing
            self.delete_all(filter(is_temporary, self.storage.names(folder)))
        self.storage.replace(SUMMARY, as_json(summary))
        self.storage.replace(REPORT, report.encode())
        if page is not None:
            self.storage.replace(PAGE, page.encode())
        self.storage.replace(SUCCESS, b"")


def _write_table(table: pa.Table, local: Path, provenance: Mapping[str, str], tally: Tally) -> None:
    """``tally``: what the simulator cannot see in the rows is stored with them."""
    counts = {"duplicates": tally.duplicates, "engine_requests": tally.requests}
    facts = {**provenance, **{name: str(number) for name, number in counts.items()}}
    metadata = {f"rackmill.{k}": v for k, v in facts.items()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})
    with pq.ParquetWriter(local, table.schema, compression="zstd") as writer:
        for piece in pieces(table):
            writer.write_table(in_own_memory(piece))
