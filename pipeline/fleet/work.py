"""What travels between the coordinator and a worker, and between the stages inside a worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from pipeline.data.dataset import CommitRecord
from pipeline.data.results import OutputColumns, RowResult
from pipeline.data.seam import Prompt
from pipeline.data.shards import Shard
from pipeline.data.units import Unit
from pipeline.model.store import ModelFolder
from pipeline.report.timeline import Interval
from pipeline.schedule.leases import Word
from pipeline.spec.job import Job


@dataclass(frozen=True)
class WorkerSpec:
    """All a worker needs to know of a job; leases bring the rest."""

    job: Job
    shards: tuple[Shard, ...]
    input_schema: pa.Schema
    columns: OutputColumns
    model: ModelFolder
    engine_arguments: Mapping[str, Mapping[str, Any]]  # by the name of the card
    provenance: Mapping[str, str]
    expected_tokens: float | None = None  # of a completion in the mean, where any was ever seen


@dataclass(frozen=True)
class Progress:
    """A worker's running totals. Tokens are those of finished rows; times in epoch seconds."""

    rows: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    preemptions: int = 0
    recomputed_tokens: int = 0  # because of them
    running: int = 0
    kv_use: float = 0.0  # share of the engine's blocks that running requests hold, 0..1
    first_step: float = 0.0
    last_step: float = 0.0
    timeline: tuple[Interval, ...] = ()
    kv_count_error: float | None = None  # most by which our count of the blocks was off, 0..1


@dataclass(frozen=True, slots=True)
class GiveUpRows:
    """Another worker would be earlier with the rows of ``unit`` from ``keep`` on (a row of the
    shard)."""

    unit: Unit
    keep: int


class RowSource(Protocol):
    """Where a worker's rows wait, as those see it who may want them back."""

    @property
    def taken(self) -> int:
        """Rows that were handed on to the engine."""

    def give_up(self, asked: GiveUpRows) -> int:
        """Drop rows that were not handed on. Returns the row (of the shard) before which those of
        ``asked.unit`` are kept."""


class Coordination(Protocol):
    """The coordinator, as a worker sees it."""

    def acquire(self) -> tuple[Unit, ...] | Word:
        """Units to work on, or why there are none."""

    def committed(self, records: Sequence[CommitRecord]) -> None:
        """These commit records exist."""

    def listen(self, source: RowSource) -> None:
        """From now on ask ``source`` for rows that others shall do."""

    def heartbeat(self, progress: Progress) -> None:
        """The worker lives, and this is how far it is."""


class OpenUnit:
    """A unit whose rows are on their way. ``finish`` may be called from any thread."""

    def __init__(self, unit: Unit, table: pa.Table) -> None:
        self.unit = unit
        self.table = table
        self.results: list[RowResult | None] = [None] * unit.rows
        self.begun = 0  # rows handed on to the engine: all before this one
        self._missing = unit.rows
        self._lock = threading.Lock()

    def finish(self, row: int, result: RowResult) -> bool:
        """Note a row's result; True for the one that makes the unit whole."""
        with self._lock:
            if row >= len(self.results):
                return False  # it was given up
            self.results[row] = result
            self._missing -= 1
            return self._missing == 0

    @property
    def begun_or_done(self) -> int:
        """Rows before this one are handed on or have their result."""
        row = self.begun
        while row < len(self.results) and self.results[row] is not None:
            row += 1
        return row

    def shrink(self, unit: Unit) -> bool:
        """Only ``unit``, the first rows of this one, is left. True if it is whole thereby."""
        with self._lock:
            self.unit, self.table = unit, self.table.slice(0, unit.rows)
            self.results = self.results[: unit.rows]
            self._missing = sum(result is None for result in self.results)
            return self._missing == 0


@dataclass(frozen=True, slots=True)
class ReadyRow:
    """A tokenized row, on its way to the engine."""

    unit: OpenUnit
    row: int
    prompt: Prompt


class Stage(threading.Thread):
    """A thread whose failure is raised where it is joined, not lost."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._trouble: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as e:
            self._trouble = e

    def check(self) -> None:
        """Raise what ended the stage, if anything did."""
        if self._trouble is not None:
            raise self._trouble
