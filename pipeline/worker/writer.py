"""The stage behind the engine: whole units in, committed files out."""

from __future__ import annotations

import logging
import queue
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.logs import about
from pipeline.output.columns.results import tally, to_table
from pipeline.output.commit.commit_tree import commit_rows
from pipeline.output.commit.records import CommitRecord
from pipeline.output.dataset import Dataset
from pipeline.output.rows.redo import Redone, recommit_rows
from pipeline.output.tally import Tally
from pipeline.worker.answer_cache.store import AnswerStore
from pipeline.worker.coordination.messages import WorkerSpec
from pipeline.worker.open_unit import OpenUnit
from pipeline.worker.stage import Stage

if TYPE_CHECKING:  # it imports Ray
    from pipeline.worker.coordination.remote import RemoteCoordination

_log = logging.getLogger(__name__)


class Writer:
    """Commits units in the background, while the engine goes on."""

    def __init__(
        self,
        spec: WorkerSpec,
        dataset: Dataset,
        coordination: RemoteCoordination,
        answers: AnswerStore | None = None,
    ) -> None:
        """``answers``: where the answers of committed units are stored for other workers."""
        self._spec = spec
        self._answers = answers
        self._coordination = coordination
        self._dataset = dataset
        self.engine: str | None = None  # the name of the engine, once it is loaded
        self._units: queue.Queue[OpenUnit | None] = queue.Queue()
        self.stage = Stage("writer", self._write)

    def put(self, unit: OpenUnit) -> None:
        """Hand over a unit whose every row has a result."""
        self._units.put(unit)

    def finish(self) -> None:
        """Wait until all handed-over units are committed. Raises what went wrong."""
        self._units.put(None)
        self.stage.join()
        self.stage.check()

    def _write(self) -> None:
        columns = self._spec.columns
        # with its first array pyarrow imports pandas, if installed: better now, while
        # the engine loads, than beside its steps
        to_table(self._spec.input_schema.empty_table(), [], columns)
        while (done := self._units.get()) is not None:
            with about(unit=done.unit.id):
                self._coordination.committed(self._commit(done))
                _log.debug("committed %d rows", done.unit.rows)
            done.settled = True
            if self._answers is not None:
                results = [r for r in done.results if r is not None]
                self._answers.keep(done.unit.id, results)

    def _commit(self, done: OpenUnit) -> Sequence[CommitRecord | Redone]:
        spec, dataset = self._spec, self._dataset
        if spec.redo is None:
            return commit_rows(dataset, done.unit, partial(self._slice, done), spec.provenance)
        made = recommit_rows(
            dataset,
            spec.redo,
            done.unit,
            done.table,
            done.results,
            spec.columns,
            spec.provenance,
            self.engine,
        )
        return [made]

    def _slice(self, done: OpenUnit, start: int, stop: int) -> tuple[pa.Table, Tally]:
        """Rows ``start``..``stop`` of the shard: the output table and its counts."""
        first = start - done.unit.start
        results = [r for r in done.results[first : stop - done.unit.start] if r is not None]
        table = done.table.slice(first, stop - start)
        columns = self._spec.columns
        counted = tally(table, results, columns, self.engine)
        return to_table(table, results, columns, self.engine), counted
