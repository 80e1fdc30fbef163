from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.driver.plan.plan import Plan
from pipeline.driver.workers import worker_handle
from tests.driver.driver_side import Rack
from tests.driver.forecast_side import ROWS
from tests.support.samples import job, write_model


@pytest.fixture
def new_rack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def make(**given: Any) -> Rack:
        rack = Rack(**given)
        monkeypatch.setattr(worker_handle, "WorkerHandle", rack.make)
        monkeypatch.setattr(worker_handle, "find_workers", rack.find)
        return rack

    return make


@pytest.fixture
def rack(new_rack: Any) -> Rack:
    made: Rack = new_rack()
    return made


@pytest.fixture
def plan_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes plans of a job over 300 rows; nothing was measured on this machine before."""
    monkeypatch.setenv("RACKMILL_PROFILE", str(tmp_path / "profile.jsonl"))
    rows = [{"text": f"a longer tweet about number {i}", "n": i} for i in range(ROWS)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    write_model(tmp_path / "model")

    def make(**changes: Any) -> Plan:
        places = {
            "model": str(tmp_path / "model"),
            "input": {"path": str(tmp_path / "in.parquet")},
            "output": {"path": str(tmp_path / "out")},
        }
        return pipeline.plan(job(**places | changes))

    return make
