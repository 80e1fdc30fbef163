"""What travels between the coordinator and a worker, and between the stages inside a worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from pipeline.data.dataset import CommitRecord
from pipeline.data.results import OutputColumns, RowResult
from pipeline.data.seam import Prompt
from pipeline.data.shards import Shard
from pipeline.data.units import Unit
from pipeline.model.store import ModelFolder
from pipeline.schedule.dispatcher import Word
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


@dataclass(frozen=True)
class Progress:
    """A worker's running totals. Tokens are those of finished rows; times in epoch seconds."""

    rows: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    preemptions: int = 0
    running: int = 0
    kv_use: float = 0.0  # share of the engine's blocks that admitted requests hold, 0..1
    first_step: float = 0.0
    last_step: float = 0.0


class Coordination(Protocol):
    """The coordinator, as a worker sees it."""

    def acquire(self) -> Unit | Word:
        """A unit to work on, or why there is none."""

    def committed(self, unit: Unit, record: CommitRecord) -> None:
        """A commit record for the unit exists."""

    def heartbeat(self, progress: Progress) -> None:
        """The worker lives, and this is how far it is."""


class OpenUnit:
    """A unit whose rows are on their way. ``finish`` may be called from any thread."""

    def __init__(self, unit: Unit, table: pa.Table) -> None:
        self.unit = unit
        self.table = table
        self.results: list[RowResult | None] = [None] * unit.rows
        self._missing = unit.rows
        self._lock = threading.Lock()

    def finish(self, row: int, result: RowResult) -> bool:
        """Note a row's result; True for the one that makes the unit whole."""
        with self._lock:
            self.results[row] = result
            self._missing -= 1
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
