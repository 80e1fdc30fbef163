"""Verifies a dataset: reads every file once, together with the input, one unit at a time."""

from __future__ import annotations

import hashlib
import io
import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import RackmillError
from pipeline.humanize import plural, size
from pipeline.input.changes.content import content_of
from pipeline.input.find import facts_now
from pipeline.input.second_reading import SecondReading
from pipeline.input.shard import Shard
from pipeline.input.units import Unit
from pipeline.output.columns.answers_as_rows import by_row
from pipeline.output.commit.records import (
    ATTEMPTS,
    CLEARING,
    SUCCESS,
    SUMMARY,
    CommitRecord,
    CommitState,
)
from pipeline.output.dataset import Dataset
from pipeline.output.manifest import Manifest, need_manifest
from pipeline.output.runs.run_registry import live_runs
from pipeline.output.tally import Tally
from pipeline.output.verify.promises import (
    GO_ON,
    Flaw,
    Layout,
    check_files,
    check_table,
    check_totals,
    lay_out,
    leftover_attempts,
    missing_rows,
    redo,
)
from pipeline.printable import first_line
from pipeline.storage.base import Storage

_log = logging.getLogger(__name__)
_AHEAD = 2  # files read and hashed while another is compared with the input


@dataclass
class Verification:
    """What was checked, and what is wrong. ``notes``: what is no fault, and what could not be
    checked. ``compared_rows``: rows whose kept columns were compared with the input's."""

    output: str
    name: str = ""
    rows: int = 0
    files: int = 0
    size: int = 0  # bytes
    compared_rows: int = 0
    faults: list[Flaw] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.faults

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "output": self.output,
            "name": self.name,
            "rows": self.rows,
            "files": self.files,
            "bytes": self.size,
            "compared_rows": self.compared_rows,
            "faults": [vars(fault) for fault in self.faults],
            "notes": self.notes,
        }


def verify(storage: Storage) -> Verification:
    """Check a whole dataset. Raises UsageError if there is none, StorageFailed."""
    dataset = Dataset(storage)
    verdict = Verification(storage.address())
    manifest = need_manifest(dataset)
    verdict.name = manifest.name
    damaged: list[str] = []
    state = dataset.state(damaged)
    attempts = dict(storage.files(ATTEMPTS))
    files, folders = dict(storage.files("")), storage.folders()
    verdict.faults += [
        Flaw("a commit record is damaged", path, f"remove it, then {GO_ON}") for path in damaged
    ]
    layout = lay_out(manifest, state)
    faults = [*layout.faults, *check_files(layout, files, folders, attempts)]
    verdict.faults += [*missing_rows(layout, manifest), *faults]
    bad = {fault.where for fault in faults}
    total = _look_at_rows(dataset, manifest, layout, attempts, bad, verdict)
    _conclude(dataset, state, layout, total, verdict)
    _note_leftovers(dataset, layout, attempts, verdict)
    _log.info("verified %s: %d faults", verdict.output, len(verdict.faults))
    return verdict


def _conclude(
    dataset: Dataset, state: CommitState, layout: Layout, total: Tally, verdict: Verification
) -> None:
    storage = dataset.storage
    if dataset.half_cleared:
        what = "starting over was begun and not ended"
        verdict.faults.append(Flaw(what, CLEARING, "run the job again"))
    summary = dataset.summary()
    if not dataset.finished:
        if layout.complete:
            verdict.faults.append(Flaw("the run did not come to its end", SUCCESS, GO_ON))
    elif not layout.complete:
        verdict.faults.append(Flaw("the dataset is marked as whole and is not", SUCCESS, GO_ON))
    elif summary is not None and summary.get("generation", 0) != state.generation:
        verdict.notes.append(
            f"{storage.address(SUMMARY)} is older than the rows: a retry was interrupted, or "
            "trust; the same command goes on"
        )
    elif not verdict.faults:
        verdict.faults += check_totals(summary, total, SUMMARY)


def _note_leftovers(
    dataset: Dataset, layout: Layout, attempts: dict[str, int], verdict: Verification
) -> None:
    number, there = leftover_attempts(layout, attempts)
    where = dataset.storage.address()
    alive = live_runs(dataset.storage)
    if alive:
        verdict.notes.append(f"a run is at work ({alive[-1].place}): verify when it has ended")
    elif number:
        verdict.notes.append(
            f"{plural(number, 'abandoned attempt')} ({size(there)}) can go: rackmill clean {where}"
        )


@dataclass
class _CheckedUnit:
    """A unit's rows, if its file matches its record."""

    unit: Unit
    record: CommitRecord | None
    table: pa.Table | None = None
    faults: list[Flaw] = field(default_factory=list)
    waits: bool = False  # its record is of a later generation than readers see


def _look_at_rows(
    dataset: Dataset,
    manifest: Manifest,
    layout: Layout,
    attempts: dict[str, int],
    bad: set[str],
    verdict: Verification,
) -> Tally:
    """Hash and check every file, and compare its kept columns with the input's."""
    total = Tally()
    waiting = 0
    beside = _InputInStep(manifest, verdict.notes)
    for looked in _looks(dataset, manifest, layout, attempts, bad):
        verdict.faults += looked.faults
        record = looked.record
        waiting += looked.waits
        if record is None:
            continue
        total.add(record.tally)
        verdict.rows += record.tally.rows
        verdict.files += 1
        verdict.size += record.size
        if looked.table is None or looked.faults or not beside.usable(looked.unit):
            continue
        different = beside.differs(looked.unit, looked.table)
        if not beside.usable(looked.unit):
            continue
        if different is not None:
            row, column = different
            place = (row - looked.unit.start) * manifest.rows_of_one
            where = f"{record.file}, row {place}"
            what = f"column {column!r} is not that of row {row} of {beside.name(looked.unit)}"
            verdict.faults.append(Flaw(what, where, redo(record)))
        verdict.compared_rows += record.tally.rows
    if waiting:
        verdict.notes.append(
            f"{plural(waiting, 'file')} will be replaced by a newer generation: a retry was "
            "interrupted, or trust; the same command goes on"
        )
    return total


def _looks(
    dataset: Dataset,
    manifest: Manifest,
    layout: Layout,
    attempts: dict[str, int],
    bad: set[str],
) -> Iterator[_CheckedUnit]:
    """Units in input order; a few files are read ahead."""
    ahead: deque[Future[_CheckedUnit]] = deque()
    with ThreadPoolExecutor(_AHEAD) as pool:
        for unit, record in layout.leaves:
            ahead.append(pool.submit(_look, dataset, manifest, unit, record, attempts, bad))
            if len(ahead) > _AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _look(
    dataset: Dataset,
    manifest: Manifest,
    unit: Unit,
    record: CommitRecord | None,
    attempts: dict[str, int],
    bad: set[str],
) -> _CheckedUnit:
    if record is None or record.file in bad:
        return _CheckedUnit(unit, record)
    content = dataset.storage.read(record.file)
    found = hashlib.sha256(content or b"").hexdigest()
    waits = found != record.sha256 and record.attempt_path in attempts
    if waits:
        # readers may see an earlier generation, but nothing else
        earlier = [dataset.generation(record, g) for g in range(record.generation)]
        seen = next((e for e in earlier if e is not None and e.sha256 == found), None)
        content = dataset.storage.read(record.attempt_path)
        whole = hashlib.sha256(content or b"").hexdigest() == record.sha256
        if seen is None or not whole:
            where = record.attempt_path if seen is not None else record.file
            return _CheckedUnit(unit, record, faults=[_other_content(where, record)])
    elif found != record.sha256:
        return _CheckedUnit(unit, record, faults=[_other_content(record.file, record)])
    try:
        table = pq.read_table(io.BytesIO(content or b""))
    except (pa.ArrowException, OSError) as e:
        why = f"cannot be read as Parquet: {first_line(e)}"
        fault = Flaw(why, record.file, redo(record))
        return _CheckedUnit(unit, record, faults=[fault])
    return _CheckedUnit(unit, record, table, check_table(table, record, manifest), waits)


def _other_content(where: str, record: CommitRecord) -> Flaw:
    what = "its content is not what was committed (SHA-256 differs)"
    return Flaw(what, where, redo(record))


class _InputInStep:
    """The input, read in step with the output; each shard that cannot be compared is noted once."""

    def __init__(self, manifest: Manifest, notes: list[str]) -> None:
        self._manifest = manifest
        self._notes = notes
        self._again = SecondReading(manifest.shards, manifest.kept, manifest.content.cast)
        self._usable: dict[int, bool] = {}
        if not manifest.kept:
            notes.append("no input column is kept: nothing to compare with the input")

    def name(self, unit: Unit) -> str:
        return self._manifest.shards[unit.shard].path

    def usable(self, unit: Unit) -> bool:
        """Whether the unit's input file exists, is unchanged, and is needed."""
        if not self._manifest.kept or not unit.rows:
            return False
        if unit.shard not in self._usable:
            trouble = _trouble_with(self._manifest.shards[unit.shard])
            self._usable[unit.shard] = trouble is None
            if trouble is not None:
                self._notes.append(f"not compared with the input: {self.name(unit)} {trouble}")
        return self._usable[unit.shard]

    def differs(self, unit: Unit, table: pa.Table) -> tuple[int, str] | None:
        """The first row of the file, and its column, that differ from the table. A file that cannot
        be read is noted, and no longer usable."""
        try:
            rows = by_row(table, self._manifest.rows_of_one)
            return self._again.differs(unit.shard, unit.start, rows)
        except (RackmillError, pa.ArrowException, OSError, ValueError, KeyError, IndexError) as e:
            self._usable[unit.shard] = False
            self._notes.append(f"not compared with the input: {self.name(unit)}: {first_line(e)}")
            return None


def _trouble_with(shard: Shard) -> str | None:
    """Why the shard cannot be used for comparison: it must be unchanged."""
    try:
        size, version, stamp = facts_now(shard.path)
    except FileNotFoundError:
        return "is gone"
    except (OSError, ValueError, ImportError) as e:
        return f"cannot be read ({e})"
    if size != shard.size:
        return "changed since"
    if (stamp and stamp == shard.stamp) or (version == shard.version and not shard.content):
        return None
    now = replace(shard, stamp=stamp)
    return None if shard.content and content_of(now) == shard.content else "changed since"
