"""A dataset that grows run by run: the result of a schedule.

    OUTPUT/run=2026-11-24T02-00-00Z/…      the rows of that run, a separate output folder
    OUTPUT/_runs/2026-11-25T02-00-00Z/…    a run that has not ended: readers skip it
    …/_rackmill/increment.json             the input files of the run, as they were then

Readers see one dataset with a column ``run``. A run's rows appear when the run has ended; if they
replace earlier rows (their file has changed), those are removed first. So no row is ever there
twice, and after a crash at any moment ``recover`` continues.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import fsspec
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import UsageError
from pipeline.input.changes.compare import absolute
from pipeline.input.changes.increment import Covered, Increment
from pipeline.input.units import branches, leaves
from pipeline.output.commit.records import MANIFEST, STATE, SUMMARY, CommitRecord
from pipeline.output.dataset import Dataset
from pipeline.output.folder import as_json
from pipeline.output.manifest import read_manifest
from pipeline.output.runs.run_registry import live_runs
from pipeline.output.tally import Tally
from pipeline.output.totals import rounded, totals
from pipeline.storage.base import Storage, open_storage

PREFIX, STAGING = "run=", "_runs"
INCREMENT = f"{STATE}/increment.json"
_NAME = "%Y-%m-%dT%H-%M-%SZ"


def run_name(due: datetime) -> str:
    """The name of a run that is due at that time; such names sort by time."""
    return due.astimezone(UTC).strftime(_NAME)


class _Facts(BaseModel):
    """What a run is about, as it is kept with it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schedule: str
    full: bool
    inputs: list[Covered]
    replaced: list[str]
    went_on: dict[str, int] = {}


@dataclass(frozen=True)
class GrowingRun:
    """One run's folder. Publishing it removes earlier results: all of them (``full``), those of
    whole files (``replaced``), or those from some row of a file on (``went_on``)."""

    name: str
    storage: Storage
    schedule: str
    full: bool
    inputs: Sequence[Covered]
    replaced: Sequence[str]
    went_on: Mapping[str, int] = field(default_factory=dict)

    @property
    def dropped(self) -> dict[str, int]:
        """File -> the row from which on earlier results are removed."""
        return dict(self.went_on) | dict.fromkeys(self.replaced, 0)


class GrowingDataset:
    """The dataset at ``address``, and its runs."""

    def __init__(self, address: str) -> None:
        self.address = absolute(address)
        self._storage = open_storage(self.address)

    def published(self) -> list[GrowingRun]:
        """The runs that readers see, the oldest first. Raises UsageError for folders that do not
        come from a run of a schedule."""
        names = self._storage.folders()
        strange = [n for n in names if not n.startswith(("_", ".", PREFIX))]
        strange += [path for path, _ in self._storage.files("") if not path.startswith(("_", "."))]
        if strange:
            raise UsageError(
                f"output.path {self.address} holds {strange[0]}, which is of no scheduled run",
                "a schedule needs a folder of its own: give another output.path",
            )
        runs = [self._read(n) for n in names if n.startswith(PREFIX)]
        return [run for run in runs if run is not None]

    def unfinished(self) -> list[GrowingRun]:
        """Runs that have not ended, the oldest first; some may be working."""
        names = open_storage(f"{self.address}/{STAGING}").folders()
        return [r for name in names if (r := self._read(f"{STAGING}/{name}")) is not None]

    def covered(self) -> list[Covered]:
        """Every input file that is done, as it was in its last run."""
        newest: dict[str, Covered] = {}
        for run in self.published():
            if run.full:
                newest.clear()
            newest |= {one.at: one for one in run.inputs}
        return list(newest.values())

    def begin(
        self, name: str, schedule: str, made: Increment, inputs: Sequence[Covered], *, full: bool
    ) -> GrowingRun:
        """Write down the run's input files. Replaces what was written before."""
        replaced = [absolute(path) for path in made.changed]
        went_on = {absolute(path): row for path, row in made.went_on.items()}
        facts = {
            "schedule": schedule,
            "full": full,
            "inputs": [vars(one) for one in inputs],
            "replaced": replaced,
            "went_on": went_on,
            **made.as_json(),
        }
        storage = open_storage(f"{self.address}/{STAGING}/{name}")
        storage.replace(INCREMENT, as_json(facts))
        return GrowingRun(name, storage, schedule, full, tuple(inputs), tuple(replaced), went_on)

    def recover(self) -> None:
        """Publish the runs that have ended and are not published yet."""
        for run in self.unfinished():
            if Dataset(run.storage).finished and not live_runs(run.storage):
                self._publish(run)

    def discard(self, run: GrowingRun) -> None:
        """Delete a run that has not ended."""
        self._remove(f"{STAGING}/{run.name}")

    def _publish(self, run: GrowingRun) -> None:
        for earlier in self.published():
            if earlier.name == run.name:
                continue  # this run, half moved
            if run.full or (run.dropped and not drop_rows(earlier.storage, run.dropped)):
                self._remove(f"{PREFIX}{earlier.name}")
        self._move(f"{STAGING}/{run.name}", f"{PREFIX}{run.name}")

    def _read(self, folder: str) -> GrowingRun | None:
        """The run in this folder; None if no run was begun there."""
        storage = open_storage(f"{self.address}/{folder}")
        content = storage.read(INCREMENT)
        if content is None:
            return None
        try:
            facts = _Facts.model_validate(json.loads(content))
        except (ValueError, RecursionError) as e:
            why = e.errors()[0]["msg"] if isinstance(e, ValidationError) else e
            raise UsageError(f"{storage.address(INCREMENT)} is damaged: {why}") from None
        name = folder.rpartition("/")[2].removeprefix(PREFIX)
        return GrowingRun(name, storage, **dict(facts))

    def _move(self, source: str, target: str) -> None:
        """One rename on a disk; file by file on an object store, and again after a crash."""
        fs, root = fsspec.core.url_to_fs(self.address)
        if "file" in fs.protocol:
            fs.mv(f"{root}/{source}", f"{root}/{target}", recursive=True)
            return
        start = f"{root}/{source}/"
        for path in sorted(fs.find(start)):
            fs.cp_file(path, f"{root}/{target}/{path.removeprefix(start)}")
        fs.rm(start, recursive=True)

    def _remove(self, folder: str) -> None:
        fs, root = fsspec.core.url_to_fs(self.address)
        if fs.exists(f"{root}/{folder}"):
            fs.rm(f"{root}/{folder}", recursive=True)


def is_growing(address: str) -> bool:
    """Whether a schedule's runs are there."""
    return any(name.startswith(PREFIX) for name in open_storage(address).folders())


def parts_of(address: str) -> list[Storage]:
    """The output folders of a dataset: itself, or those of a schedule's runs."""
    if is_growing(address):
        return [run.storage for run in GrowingDataset(address).published()]
    return [open_storage(address)]


def drop_rows(storage: Storage, files: Mapping[str, int]) -> bool:
    """Remove results of some input files from a finished run's folder, which stays valid by itself.
    ``files``: full address -> the row from which on, the first of a unit. False: the folder holds
    nothing else."""
    dataset = Dataset(storage)
    content = dataset.manifest()
    if content is None:
        return False
    manifest = read_manifest(content, storage.address(MANIFEST))
    rows_left: dict[int, int] = {}  # by number of the file
    for number, entry in enumerate(manifest.content.shards):
        first = files.get(entry.at, entry.rows)
        if first < entry.rows - entry.taken_back and entry.rows:
            rows_left[number] = max(0, first - entry.first)
    if not rows_left:
        return True
    shards = manifest.shards
    if not any(rows_left.get(s.index, s.used_rows) for s in shards):
        return False
    state = dataset.state()
    gone: list[CommitRecord] = []
    cuts: list[str] = []
    total = Tally()
    for unit in manifest.units:
        records = [r for u in leaves(unit, state.cuts) if (r := state.commits.get(u.id))]
        kept = rows_left.get(unit.shard, unit.stop)
        if unit.shard in rows_left and unit.start - shards[unit.shard].first >= kept:
            gone += records
            cuts += branches(unit, state.cuts)
        else:
            for record in records:
                total.add(record.tally)
    dataset.discard(*gone)
    dataset.forget_cuts(cuts)
    entries: list[dict[str, Any]] = []
    for number, entry in enumerate(content["shards"]):
        left = rows_left.get(number)
        entries.append(entry if left is None else _shortened(entry, left))
    rows = manifest.rows - sum(shards[n].used_rows - left for n, left in rows_left.items())
    storage.replace(MANIFEST, as_json(content | {"shards": entries, "rows": rows}))
    summary = dataset.summary()
    if summary is not None:
        counts = rounded(totals(total, graded=summary.get("gold") is not None))
        storage.replace(SUMMARY, as_json(summary | counts))
    return True


def _shortened(entry: dict[str, Any], rows: int) -> dict[str, Any]:
    """A manifest's entry with only its first ``rows`` used rows."""
    if not rows:
        about_rows = ("starts", "first", "taken_back", "last_apart")
        return {k: v for k, v in entry.items() if k not in about_rows} | {"rows": 0}
    end = int(entry.get("first", 0)) + rows
    starts = entry.get("starts")
    kept = {"starts": [s for s in starts if s < end]} if starts is not None else {}
    return entry | kept | {"taken_back": int(entry["rows"]) - end}
