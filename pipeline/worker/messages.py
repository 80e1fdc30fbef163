"""What travels between the coordinator and a worker, and between the stages inside a worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from pipeline.dispatch.events import NoLease
from pipeline.input.shard import Shard
from pipeline.input.units import Unit
from pipeline.job.job import Job
from pipeline.model.folder import ModelFolder
from pipeline.output.columns.results import OutputColumns, RowResult
from pipeline.output.commit.records import CommitRecord
from pipeline.output.redo import KEPT, Redo, Redone
from pipeline.prompt.join import Prompt
from pipeline.rows.row_range import RowRange
from pipeline.rows.workload import Lengths
from pipeline.worker.timeline import Interval

_GAP_ROWS = 32


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
    known_lengths: Lengths | None = None  # of completions, where any was ever seen
    prove_engine: bool = False  # with one harmless request, before any row is given to it
    redo: Redo | None = None  # only these error rows are done, again


@dataclass(frozen=True, slots=True)
class Lease:
    """Units to work on. ``losses``: how many engines died with some of the rows in them; ``why``:
    what the last of them died of.

    ``quarantined``: no engine shall see the rows again: they become error rows.
    """

    units: tuple[Unit, ...]
    losses: int = 0
    quarantined: bool = False
    why: str = ""


@dataclass(frozen=True)
class Progress:
    """A worker's running totals. Tokens are those of finished rows; times in epoch seconds.

    ``rows``: that went through the engine's loop; of these so many ``failed``.
    """

    rows: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    preemptions: int = 0
    recomputed_tokens: int = 0  # because of them
    running: int = 0
    waiting: int = 0  # taken, and not begun with by the engine
    given_up: int = 0  # taken, and another worker's now
    in_engine: int = 0  # rows that it was given and has not finished
    errors: Mapping[str, int] = field(default_factory=dict)  # error rows by type, all of them
    kv_use: float = 0.0  # share of the engine's blocks that running requests hold, 0..1
    kv_blocks: int = 0  # of the engine in all
    kv_held: int = 0  # by running requests
    kv_reserved: int = 0  # more, that the admitted ones are expected to hold at their peak
    first_step: float = 0.0
    last_step: float = 0.0
    timeline: tuple[Interval, ...] = ()
    kv_count_error: float | None = None  # most by which our count of the blocks was off, 0..1

    @property
    def error_rows(self) -> int:
        """All of them, also those that failed before the engine's loop saw them."""
        return sum(self.errors.values())


@dataclass(frozen=True, slots=True)
class LastWords:
    """What a worker says of its engine that failed or hangs. ``rows``: those that it had."""

    why: str
    rows: tuple[RowRange, ...] = ()


@dataclass(frozen=True, slots=True)
class LeaseRows:
    """Rows that a worker has leased and not committed: without a result, and with one."""

    unfinished: int = 0
    finished: int = 0


@dataclass(frozen=True, slots=True)
class GiveUpRows:
    """Another worker would be earlier with the rows of ``unit`` from ``keep`` on (a row of the
    shard)."""

    unit: Unit
    keep: int


@dataclass(frozen=True, slots=True)
class Orders:
    """What the coordinator has to say when it hears of a worker.

    ``stop_seconds``: the run is stopping, and what is in flight has so long; ``introduce``: who
    is this, and what does it hold? (The coordinator was lost and is back.)
    """

    give_up: tuple[GiveUpRows, ...] = ()
    stop_seconds: float | None = None
    introduce: bool = False


def active_rows(source: RowSource | None, progress: Progress) -> int:
    """Rows that a worker has taken and not finished."""
    if source is None:
        return 0
    return max(0, source.taken - progress.rows - progress.given_up)


class RowSource(Protocol):
    """Where a worker's rows wait, as those see it who may want them back."""

    @property
    def taken(self) -> int:
        """Rows that were handed on, to wait for the engine."""

    @property
    def flights(self) -> list[RowRange]:
        """Rows that the engine has not finished and may have before this is asked again: none as
        long as nothing was handed on."""

    def give_up(self, asked: GiveUpRows) -> int:
        """Drop rows that the engine has not begun with. Returns the row (of the shard) before
        which those of ``asked.unit`` are kept."""

    @property
    def holding(self) -> list[Unit]:
        """What is leased and perhaps not committed: units, or what is left of them."""

    @property
    def lease_rows(self) -> LeaseRows:
        """How far the rows are that are leased and not committed."""

    def wind_up(self, seconds: float) -> None:
        """The run is stopping: hand on no more rows. Those that were handed on may end within
        ``seconds`` from now."""


class Coordination(Protocol):
    """The coordinator, as a worker sees it."""

    def acquire(self) -> Lease | NoLease:
        """Units to work on, or why there are none."""

    def committed(self, records: Sequence[CommitRecord | Redone]) -> None:
        """These commit records exist, or rows of them were done again."""

    def listen(self, source: RowSource) -> None:
        """From now on ask ``source`` for rows that others shall do."""

    def heartbeat(self, progress: Progress) -> None:
        """The worker lives, and this is how far it is."""

    def announce(self) -> None:
        """The engine is about to begin with rows: have it known at once which these may be."""

    def engine_failed(self, said: LastWords) -> None:
        """The engine is no more."""

    def note(self, line: str) -> None:
        """Say this aloud to whoever watches the run."""


class OpenUnit:
    """A unit whose rows are on their way. ``finish`` may be called from any thread."""

    def __init__(self, unit: Unit, table: pa.Table, again: Sequence[int] | None = None) -> None:
        """``again``: only these rows are to be done; the others are there already."""
        self.unit = unit
        self.table = table
        self.results: list[RowResult | None] = [None if again is None else KEPT] * unit.rows
        for row in again or ():
            if row < unit.rows:
                self.results[row] = None
        self.begun = 0  # the engine has begun with no row from this one on
        self.losses = 0  # engines that died with some of these rows
        self.settled = False  # committed, and the coordinator knows
        self._missing = sum(result is None for result in self.results)
        self._lock = threading.Lock()

    def finish(self, row: int, result: RowResult) -> bool:
        """Note a row's result; True for the one that makes the unit whole."""
        with self._lock:
            if row >= len(self.results) or self.results[row] is not None:
                return False  # it was given up, or is there
            self.results[row] = result
            self._missing -= 1
            return self._missing == 0

    def open_rows(self, start: int, stop: int) -> list[int]:
        """Those of the rows ``start``..``stop`` that have no result."""
        with self._lock:
            results = self.results[start:stop]
        return [row for row, result in enumerate(results, start) if result is None]

    @property
    def begun_or_done(self) -> int:
        """The engine has begun with no row from this one on, and rows before have their result or
        may have been begun with."""
        row = self.begun
        while row < len(self.results) and self.results[row] is not None:
            row += 1
        return row

    def unfinished(self, stop: int) -> list[RowRange]:
        """Rows without a result among the first ``stop``. A few that have one may be among them
        where that makes the list shorter."""
        runs: list[list[int]] = []
        for row, result in enumerate(self.results[:stop]):
            if result is None:
                if runs and row - runs[-1][1] <= _GAP_ROWS:
                    runs[-1][1] = row + 1
                else:
                    runs.append([row, row + 1])
        shard, start = self.unit.shard, self.unit.start
        return [RowRange(shard, start + first, start + end) for first, end in runs]

    @property
    def counts(self) -> LeaseRows:
        """Of the rows that are to be done here."""
        results = list(self.results)
        missing = sum(result is None for result in results)
        kept = sum(result is KEPT for result in results)
        return LeaseRows(missing, len(results) - missing - kept)

    @property
    def whole(self) -> bool:
        """Whether every row has its result."""
        return self._missing == 0

    @property
    def front(self) -> int:
        """Rows before this one have their result."""
        with self._lock:
            return next((i for i, r in enumerate(self.results) if r is None), len(self.results))

    @property
    def last(self) -> int:
        """No row from this one on has a result."""
        with self._lock:
            behind = enumerate(reversed(self.results))
            rows = len(self.results)
            return rows - next((i for i, r in behind if r is not None), rows)

    def shrink(self, unit: Unit) -> bool:
        """Only ``unit``, the first rows of this one, is left, unless it is whole. True if it is
        whole thereby."""
        with self._lock:
            if self._missing == 0:
                return False
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
    """A thread whose failure is raised where it is joined, not lost. As long as it is alive nobody
    knows whether it will fail."""

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
