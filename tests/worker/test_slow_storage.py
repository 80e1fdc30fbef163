"""Where storage is slower than the engine, the engine waits: what is finished and not committed
is lost with the worker, and lies in its memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.driver.coordinator.coordinator import Coordinator
from pipeline.driver.plan.plan import check_input, make_plan
from pipeline.engine.load import load_engine
from pipeline.output.commit.records import CommitRecord
from pipeline.output.dataset import Dataset
from pipeline.output.rows.redo import Redone
from pipeline.storage.base import open_storage
from pipeline.worker.worker import work
from tests.support.next_door import NextDoor, worker_spec
from tests.support.samples import job, write_model

ROWS = 8000
_STILL_SECONDS = 1.0  # without a finished row: the engine waits
_PATIENCE_SECONDS = 60.0


class StuckStorage(NextDoor):
    """Its first commit lasts until the engine finishes nothing any more; ``finished`` is how many
    rows had their result by then."""

    finished = 0

    def committed(self, records: Sequence[CommitRecord | Redone]) -> None:
        if not self.finished:
            self.finished = self._when_still()
        super().committed(records)

    def _when_still(self) -> int:
        assert self.source is not None
        deadline, before, since = time.monotonic() + _PATIENCE_SECONDS, -1, time.monotonic()
        while time.monotonic() < min(deadline, since + _STILL_SECONDS):
            if (rows := self.source.lease_rows.finished) != before:
                before, since = rows, time.monotonic()
            time.sleep(0.02)
        return before


@pytest.mark.parametrize("prompt", ["{text}", "{nothing}"], ids=["answers", "error rows"])
def test_only_so_much_is_finished_ahead_of_storage_that_is_stuck(
    tmp_path: Path, prompt: str
) -> None:
    texts = [f"text {n}" if prompt == "{text}" else None for n in range(ROWS)]
    table = pa.table({"id": range(ROWS), "text": texts, "nothing": pa.nulls(ROWS, pa.string())})
    pq.write_table(table, tmp_path / "rows.parquet")
    made = job(
        model=str(write_model(tmp_path / "model")),
        input={"path": str(tmp_path / "rows.parquet")},
        output={"path": str(tmp_path / "out")},
        prompt=prompt,
        sampling={"max_tokens": 4},
        engine={"kind": "simulated", "max_num_seqs": 64},
    )
    plan = make_plan(check_input(made))
    dataset = Dataset(open_storage(made.output.path))
    dataset.take_over(plan.manifest)
    stuck = StuckStorage(Coordinator(plan.units, [], {"card": 100.0}))

    work(worker_spec(plan), stuck, lambda: load_engine(made, {}, plan.model))

    assert 0 < stuck.finished < ROWS / 2
    assert sum(record.tally.rows for record in stuck.records) == ROWS
