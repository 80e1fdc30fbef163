"""One run of a schedule: what is new in the input becomes part of the dataset."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pipeline.driver.plan.job_model import find_model, model_identity
from pipeline.driver.progress.watcher import Watcher
from pipeline.driver.run import RunOptions, run
from pipeline.driver.stop.stop import Stop
from pipeline.driver.trust.inherit import inherit
from pipeline.errors import HalfWritten, UsageError
from pipeline.input.changes.content import with_contents
from pipeline.input.changes.increment import Covered, Increment, increment
from pipeline.input.formats.protocol import mark_of
from pipeline.input.shard import Shard
from pipeline.input.shards import InputFiles, discover, moved_since
from pipeline.job.fingerprint import fingerprint_parts, without_gold
from pipeline.job.job import Job
from pipeline.output.columns.results import output_columns
from pipeline.output.dataset import Dataset
from pipeline.output.growing.growing import GrowingDataset, GrowingRun, run_name
from pipeline.output.manifest import manifest_of
from pipeline.output.runs.run_registry import live_runs
from pipeline.report.history import PastRun, draw_labels, history_page
from pipeline.storage.base import open_storage

_HISTORY = "_history"
_LOOK_SECONDS = 1.0
_MARKED_AT_ONCE = 4  # files
_YOUNG_SECONDS, _SECOND_LOOK_SECONDS = 5.0, 1.0


@dataclass(frozen=True)
class ScheduledRun:
    """``summary``: of the run; None when there was nothing new. ``run``: its name."""

    increment: Increment
    run: str | None = None
    summary: Mapping[str, Any] | None = None
    drift: float | None = None

    @property
    def exit_code(self) -> int:
        return 3 if self.summary and self.summary["failed"] else 0

    def as_json(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "input": self.increment.as_json(),
            "drift": self.drift,
            "summary": dict(self.summary) if self.summary is not None else None,
        }


def run_once(
    job: Job,
    due: datetime,
    *,
    full: bool = False,
    alone: bool = True,
    address: str | None = None,
    queued: str | None = None,
    watcher: Watcher | None = None,
    stop: Stop | None = None,
) -> ScheduledRun:
    """Do what no earlier run of the schedule did, and publish it.

    An interrupted run is continued as a part of this one. ``full``: do everything again, and
    replace all that is there. ``alone``: wait for another run that still works here; otherwise
    leave its input to it. ``queued``: the run's name in the queue of the rack at ``address``, if
    there is one. Raises as ``run``.
    """
    watcher = watcher or Watcher()
    dataset = GrowingDataset(job.output.path)
    running = _running(dataset)
    while alone and running:
        watcher.note(f"another run works on {dataset.address}: waiting for its end")
        time.sleep(_LOOK_SECONDS)
        running = _running(dataset)
    _hold_promises(dataset, job, watcher)
    dataset.recover()
    done = _published(dataset, run_name(due))
    if done is not None:
        return done  # the process that waited for it was killed
    begun = _begun(dataset, job, running)
    full = full or (begun is not None and begun.full)
    covered = dataset.covered() + [one for other in running for one in other.inputs]
    try:
        files, made = _look(job, covered, full=full)
    except HalfWritten as e:  # no file is complete
        watcher.note(f"input: left for the next run: {e.message}")
        return ScheduledRun(Increment(()))
    for line in made.lines():
        watcher.note(line)
    if not made.shards:
        if begun is not None:
            dataset.discard(begun)
        return ScheduledRun(made)
    if not full:
        _check_same(dataset, job, files)
    with ThreadPoolExecutor(_MARKED_AT_ONCE) as pool:
        marks = list(pool.map(mark_of, made.shards))
    shards = tuple(
        replace(shard, index=number, last_apart=bool(mark.tail))
        for number, (shard, mark) in enumerate(zip(made.shards, marks, strict=True))
    )
    marked = [Covered.of(shard, mark) for shard, mark in zip(shards, marks, strict=True)]
    name = begun.name if begun is not None else run_name(due)
    current = dataset.begin(name, job.name, made, marked, full=full)
    options = RunOptions(
        address=address,
        queued=queued,
        patient=queued is not None,
        files=replace(files, shards=shards),
    )
    summary = run(_job_of(job, made, current), options, watcher, stop).as_json()
    if _hold_promises(dataset, job, watcher):
        summary = Dataset(current.storage).summary() or summary
    dataset.recover()
    drift = _write_history(dataset, job.name)
    return ScheduledRun(made, name, summary, drift)


def _look(job: Job, covered: Sequence[Covered], *, full: bool) -> tuple[InputFiles, Increment]:
    """The input, and the part of it to do, without files that change while we look at them. Raises
    UsageError; HalfWritten if no file is complete."""

    def look(leave: Sequence[str]) -> tuple[InputFiles, Increment]:
        files = discover(job.input, leave)
        made = increment(files.shards, covered, left=files.left, full=full)
        return files, replace(made, shards=with_contents(made.shards))

    files, made = look(())
    if any(_is_young(shard) for shard in made.shards):
        time.sleep(_SECOND_LOOK_SECONDS)
    moved = moved_since(made.shards)
    return look(moved) if moved else (files, made)


def _is_young(shard: Shard) -> bool:
    """Whether the file may still be being written."""
    return "://" not in shard.path and time.time() - float(shard.version or 0) < _YOUNG_SECONDS


def _hold_promises(dataset: GrowingDataset, job: Job, watcher: Watcher) -> bool:
    """Apply what earlier runs' right answers promised to runs that have finished and are not
    published yet. Returns whether anything was written."""
    changed = False
    if not job.asked:
        return changed
    earlier = [(one.name, Dataset(one.storage)) for one in dataset.published()]
    for one in dataset.unfinished():
        current = Dataset(one.storage)
        if current.finished and not live_runs(one.storage):
            changed |= inherit(current, earlier, job, watcher.note)
    return changed


def _published(dataset: GrowingDataset, name: str) -> ScheduledRun | None:
    """The result of the run of this name, if it is published."""
    found = next((one for one in dataset.published() if one.name == name), None)
    if found is None:
        return None
    summary = Dataset(found.storage).summary()
    past = _past(dataset)
    drift = next((one.drift for one in past if one.name == name), None)
    return ScheduledRun(Increment(()), name, summary, drift)


def _running(dataset: GrowingDataset) -> list[GrowingRun]:
    return [one for one in dataset.unfinished() if live_runs(one.storage)]


def _begun(dataset: GrowingDataset, job: Job, running: Sequence[GrowingRun]) -> GrowingRun | None:
    """The interrupted run, if it was one of the job as it is now; others are discarded."""
    names = {one.name for one in running}
    broken_off = [one for one in dataset.unfinished() if one.name not in names]
    found: GrowingRun | None = None
    for one in broken_off:
        if found is not None or _changes(job, one):
            dataset.discard(one)
        else:
            found = one
    return found


def _changes(job: Job, earlier: GrowingRun) -> list[str]:
    """The parts of the job, other than its input, that have changed since ``earlier``."""
    before = manifest_of(Dataset(earlier.storage))
    if before is None:
        return []
    now = fingerprint_parts(job, model_hash=model_identity(job, find_model(job)), input_hash="")
    then = without_gold(before.content.parts)
    names = sorted((now.keys() | then.keys()) - {"input"})
    return [name for name in names if now.get(name) != then.get(name)]


def _check_same(dataset: GrowingDataset, job: Job, files: InputFiles) -> None:
    """Check that new rows match those that are there. Raises UsageError."""
    published = dataset.published()
    if not published:
        return
    last = published[-1]
    fix = "do everything anew: rackmill schedule run-now NAME --full; or give another output.path"
    changed = _changes(job, last)
    if changed:
        raise UsageError(
            f"{dataset.address} holds the output of a different job: {', '.join(changed)} changed",
            fix,
        )
    begun = manifest_of(Dataset(last.storage))
    if begun is None:
        return
    before = begun.schema
    now = output_columns(job, files.schema, begun.results).schema
    if now != before:
        names = [
            n
            for n in dict.fromkeys([*before.names, *now.names])
            if _type(before, n) != _type(now, n)
        ]
        raise UsageError(
            "the input has other columns or types than in earlier runs: "
            + ", ".join(f"{n} ({_type(before, n)} → {_type(now, n)})" for n in names),
            fix,
        )


def _type(schema: Any, name: str) -> str:
    return str(schema.field(name).type) if name in schema.names else "not there"


def _job_of(job: Job, made: Increment, current: GrowingRun) -> Job:
    """The job of this run: with its files and its own folder."""
    partitioned = any(shard.partition for shard in made.shards)
    changes: dict[str, Any] = {
        "path": tuple(shard.path for shard in made.shards),
        "skip_rows": {shard.path: shard.first for shard in made.shards if shard.first},
        "partitioning": "hive" if partitioned else "none",
    }
    inputs = job.input.model_copy(update=changes)
    output = job.output.model_copy(update={"path": current.storage.address()})
    return job.model_copy(update={"input": inputs, "output": output, "schedule": None})


def _write_history(dataset: GrowingDataset, name: str) -> float | None:
    """Write the page and the picture beside the runs. Returns the drift of the last run."""
    past = _past(dataset)
    storage = open_storage(f"{dataset.address}/{_HISTORY}")
    picture = draw_labels(past)
    if picture is not None:
        storage.replace("labels.png", picture)
    page = history_page(name, past, "labels.png" if picture is not None else None)
    storage.replace("history.md", page.encode())
    return past[-1].drift if past else None


def _past(dataset: GrowingDataset) -> list[PastRun]:
    """The published runs, the oldest first."""
    past: list[PastRun] = []
    for published in dataset.published():
        summary = Dataset(published.storage).summary()
        if summary is not None:
            past.append(PastRun.of(published.name, summary, past))
    return past
