"""Finds files in an output folder that are no longer needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.errors import UsageError
from pipeline.output.commit.records import (
    ANSWERS,
    ATTEMPTS,
    CANCEL,
    COMMITS,
    LOGS,
    RUNS,
    STATE,
    is_temporary,
)
from pipeline.output.dataset import Dataset
from pipeline.output.runs.run_registry import Life, read_runs, refuse_second
from pipeline.storage.base import Storage


@dataclass(frozen=True)
class Litter:
    """A file that can be deleted. ``size`` in bytes."""

    path: str
    size: int
    kind: str


def find_litter(dataset: Dataset) -> list[Litter]:
    """All that no commit record names and no later run would use: attempts that lost, unfinished
    files, records of ended runs, answers of a finished job.

    Raises AlreadyRunning while a run works there: the files it is writing look the same. Raises
    UsageError for a folder that is not rackmill's.
    """
    storage = dataset.storage
    if dataset.manifest() is None:
        raise UsageError(f"{storage.address()} holds no output of rackmill")
    refuse_second(storage)
    state = dataset.state()
    named = {record.attempt_path for record in state.commits.values()}
    named |= {record.file for record in state.commits.values()}
    found = _temporaries(storage, ("", STATE, COMMITS, ATTEMPTS, ANSWERS, RUNS, LOGS))
    seen = {litter.path for litter in found}
    kinds = {ATTEMPTS: "abandoned attempts"}
    if dataset.finished:
        kinds[ANSWERS] = "answers that were kept for equal rows"
    for folder, kind in kinds.items():
        found += [
            Litter(path, size, kind)
            for path, size in storage.files(folder)
            if path not in named and path not in seen
        ]
    return found + _old_runs(storage)


def summed_up(litter: Iterable[Litter]) -> Mapping[str, tuple[int, int]]:
    """Files and bytes of each kind."""
    sums: dict[str, tuple[int, int]] = {}
    for one in litter:
        files, size = sums.get(one.kind, (0, 0))
        sums[one.kind] = files + 1, size + one.size
    return sums


def _temporaries(storage: Storage, folders: Iterable[str]) -> list[Litter]:
    return [
        Litter(path, size, "files that were being written")
        for folder in folders
        for path, size in storage.files(folder)
        if is_temporary(path)
    ]


def _old_runs(storage: Storage) -> list[Litter]:
    """Records of ended runs, except the last one, which `status` shows."""
    sizes = dict(storage.files(RUNS))
    over = [record for record in read_runs(storage) if record.life() is not Life.ALIVE]
    found = [
        Litter(record.path, sizes[record.path], "records of runs that are over")
        for record in over[:-1]
        if record.path in sizes
    ]
    asked = dict(storage.files(STATE)).get(CANCEL)
    if asked is not None:
        found.append(Litter(CANCEL, asked, "requests to stop"))
    return found
