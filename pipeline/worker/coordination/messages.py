"""What travels between the coordinator and a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.input.shard import Shard
from pipeline.input.units import Unit
from pipeline.job.job import Job
from pipeline.model.folder import ModelFolder
from pipeline.output.columns.results import OutputColumns
from pipeline.output.rows.redo import Redo
from pipeline.output.runs.run_log import LogPlace
from pipeline.rows.row_range import RowRange
from pipeline.rows.workload import Lengths
from pipeline.worker.metrics.timeline import TimelineInterval


@dataclass(frozen=True)
class WorkerSpec:
    """All that a worker needs to know of a job; leases bring the rest."""

    job: Job
    shards: tuple[Shard, ...]
    input_schema: pa.Schema
    columns: OutputColumns
    model: ModelFolder
    engine_arguments: Mapping[str, Mapping[str, Any]]  # by the name of the card
    provenance: Mapping[str, str]
    known_lengths: Lengths | None = None  # of completions, where any was ever seen
    prove_engine: bool = False  # by one harmless request, before it gets any row
    redo: Redo | None = None  # only these error rows are done, again
    log: LogPlace | None = None  # of the run
    shared_rows: tuple[RowRange, ...] = ()  # rows that every engine answers, besides its own


@dataclass(frozen=True, slots=True)
class Lease:
    """Units to work on. ``losses``: how many engines died with some of the rows in them; ``why``
    the last of them died.

    ``quarantined``: no engine may see the rows again: they become error rows.
    """

    units: tuple[Unit, ...]
    losses: int = 0
    quarantined: bool = False
    why: str = ""


@dataclass(frozen=True)
class Progress:
    """A worker's running totals. Tokens are those of finished rows; times in epoch seconds.

    ``rows``: rows that went through the engine's loop; ``failed`` of them failed. ``generated``:
    the tokens that the engine has written, also of rows that are not finished, and may never be.
    """

    rows: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    generated: int = 0
    preemptions: int = 0
    recomputed_tokens: int = 0  # because of them
    running: int = 0
    waiting: int = 0  # taken, and not begun by the engine
    given_up: int = 0  # taken, and now another worker's
    in_engine: int = 0  # rows that it was given and has not finished
    errors: Mapping[str, int] = field(default_factory=dict)  # error rows by type, all of them
    kv_use: float = 0.0  # share of the engine's blocks that running requests hold, 0..1
    kv_blocks: int = 0  # of the engine in all
    kv_held: int = 0  # by running requests
    kv_reserved: int = 0  # more, that the admitted ones are expected to hold at their peak
    first_step: float = 0.0
    last_step: float = 0.0
    timeline: tuple[TimelineInterval, ...] = ()
    kv_count_error: float | None = None  # largest error of our count of the blocks, 0..1

    @property
    def error_rows(self) -> int:
        """All of them, also those that failed before they reached the engine's loop."""
        return sum(self.errors.values())


@dataclass(frozen=True, slots=True)
class LastWords:
    """A worker's report of its engine that failed or hangs. ``rows``: those that were in it."""

    why: str
    rows: tuple[RowRange, ...] = ()


@dataclass(frozen=True, slots=True)
class LeaseRows:
    """Rows that a worker has leased and not committed: without a result, and with one."""

    unfinished: int = 0
    finished: int = 0


@dataclass(frozen=True, slots=True)
class GiveUpRows:
    """Another worker would finish the rows of ``unit`` from ``keep`` on (a row of the shard)
    earlier."""

    unit: Unit
    keep: int


@dataclass(frozen=True, slots=True)
class Orders:
    """The coordinator's answer to a heartbeat.

    ``stop_seconds``: the run is stopping, and rows in flight have this long; ``introduce``: say who
    you are and what you hold. (The coordinator was lost and is back.)
    """

    give_up: tuple[GiveUpRows, ...] = ()
    stop_seconds: float | None = None
    introduce: bool = False
