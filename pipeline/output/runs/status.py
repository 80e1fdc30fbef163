"""The progress of an output folder, from its files only: no Ray, from any machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Any

from pipeline.errors import UsageError
from pipeline.input.units import leaves
from pipeline.output.commit.records import CommitState
from pipeline.output.dataset import Dataset
from pipeline.output.growing.growing import parts_of
from pipeline.output.manifest import Manifest, need_manifest
from pipeline.output.runs.run_registry import Life, RunRecord, read_runs, refuse_second
from pipeline.output.tally import Tally
from pipeline.rows.error_reasons import reasons_by_type
from pipeline.storage.base import Storage

_NAMED = 5  # failed rows


class Course(StrEnum):
    """Where a job is."""

    FINISHED = "finished"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"  # on request
    INTERRUPTED = "interrupted"  # killed, or failed


@dataclass(frozen=True)
class FailedRow:
    """``file``: of the input; ``row``: in that file, counted from 0."""

    file: str
    row: int
    type: str
    message: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Status:
    """A job's course. ``run``: the working one, or the last one. Rows done and ``errors`` count
    committed rows only, not those in flight in engines. ``reasons``: type of error -> reason ->
    rows, see ``error_reasons``. ``first_failed``: the first few failed rows. ``taken_back``: see
    ``taken_back``."""

    output: str
    name: str
    course: Course
    rows: int
    rows_done: int
    units: int
    units_done: int
    errors: dict[str, int] = field(default_factory=dict)
    run: RunRecord | None = None
    reasons: dict[str, dict[str, int]] = field(default_factory=dict)
    first_failed: tuple[FailedRow, ...] = ()
    taken_back: tuple[str, ...] = ()

    @property
    def alive(self) -> bool:
        return self.course in (Course.RUNNING, Course.STOPPING)

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    def as_json(self) -> dict[str, Any]:
        return {
            "output": self.output,
            "name": self.name,
            "course": str(self.course),
            "alive": self.alive,
            "rows": self.rows,
            "rows_done": self.rows_done,
            "rows_left": self.rows - self.rows_done,
            "failed": self.failed,
            "errors": self.errors,
            "error_reasons": self.reasons,
            "first_failed": [row.as_json() for row in self.first_failed],
            "units": self.units,
            "units_done": self.units_done,
            "run": vars(self.run) if self.run else None,
            "promises_taken_back": list(self.taken_back),
        }


def taken_back(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """The questions for which an earlier run's promise does not hold: this run's rows differ."""
    return tuple(
        question
        for question, block in (summary.get("trust") or {}).items()
        if block.get("promise") and (block.get("drift") or {}).get("found")
    )


def read_status(storage: Storage) -> Status:
    """Raises UsageError if there is no output of rackmill, StorageFailed, JobFailed."""
    dataset = Dataset(storage)
    manifest = need_manifest(dataset)
    runs = read_runs(storage)
    working = [run for run in runs if run.life() is Life.ALIVE]
    known = working or runs
    run = known[-1] if known else None
    finished = dataset.finished
    course = _course(finished, run if working else None, run)
    summary = dataset.summary() if finished else None
    if summary is not None and "rows" in summary and not working:
        # this makes it fast for a finished dataset of a million units
        done = Tally(rows=int(summary["rows"]))
        done.errors.update(summary.get("errors", {}))
        units = len(manifest.units)
        reasons = summary.get("error_reasons", {})
    else:
        done, units = _committed(manifest, dataset.state())
        reasons = reasons_by_type(done.error_reasons)
    return Status(
        output=storage.address(),
        name=manifest.name,
        course=course,
        rows=manifest.rows,
        rows_done=done.rows,
        units=len(manifest.units),
        units_done=units,
        errors=dict(done.errors.most_common()),
        run=run,
        taken_back=taken_back(summary or {}),
        reasons=reasons,
        first_failed=tuple(islice(_failed(dataset, manifest), _NAMED if done.errors else 0)),
    )


def _course(finished: bool, working: RunRecord | None, last: RunRecord | None) -> Course:
    if working is not None:
        return Course.STOPPING if working.state == "stopping" else Course.RUNNING
    if finished:
        return Course.FINISHED
    stopped = last is not None and last.state == "stopped"
    return Course.STOPPED if stopped else Course.INTERRUPTED


def _committed(manifest: Manifest, state: CommitState) -> tuple[Tally, int]:
    """What is committed of the manifest's input, and how many units are complete."""
    total, whole = Tally(), 0
    for unit in manifest.units:
        records = [state.commits.get(leaf.id) for leaf in leaves(unit, state.cuts)]
        for record in records:
            if record is not None:
                total.add(record.tally)
        whole += all(record is not None for record in records)
    return total, whole


def _failed(dataset: Dataset, manifest: Manifest) -> Iterator[FailedRow]:
    """The error rows in input order. Reads only files whose records count errors, when needed."""
    commits = dataset.state().commits.values()
    for record in sorted((r for r in commits if r.tally.errors), key=lambda r: r.row_range):
        entry = manifest.content.shards[record.row_range.shard]
        errors = dataset.read_rows(record)["error"].to_pylist()
        for number, error in enumerate(errors):
            if error is not None:
                row = record.row_range.start + number // manifest.rows_of_one
                yield FailedRow(entry.called, row, error["type"], error["message"])


def need_finished(output: str, note: Callable[[str], None] = lambda line: None) -> None:
    """Raises UsageError if the output lacks rows; AlreadyRunning if it is being written. ``note``
    gets a line before something that takes long."""
    for part in parts_of(output):
        refuse_second(part, note)
        if not Dataset(part).finished:
            status = read_status(part)
            raise UsageError(
                f"{output} is not finished: {status.rows_done} of {status.rows} rows are there, "
                "and a sample is drawn from all",
                f"go on with it first: rackmill run {part.address('_rackmill/job.json')}",
            )
