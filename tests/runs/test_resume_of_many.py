"""Resuming where ten thousand units are committed: soon, and in memory that rows do not cost."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from pipeline.driver.coordinator.coordinator import Coordinator
from pipeline.input.units import Unit
from tests.bench.resume import resume, write_records

_UNITS = 10_000
_MOST_SECONDS = 10.0


def test_ten_thousand_committed_units_are_known_within_ten_seconds(tmp_path: Path) -> None:
    write_records(str(tmp_path), _UNITS)

    assert resume(str(tmp_path), _UNITS)["whole_seconds"] < _MOST_SECONDS


def _weight(rows: int) -> int:
    """Bytes of a coordinator over units of so many rows, half of them committed."""
    units = [Unit(f"{n:024x}", 0, n * rows, (n + 1) * rows) for n in range(_UNITS)]
    done = [(unit.shard, unit.start, unit.stop) for unit in units[::2]]
    tracemalloc.start()
    try:
        coordinator = Coordinator(units, done, {"card": 1.0})
        weight, _ = tracemalloc.get_traced_memory()
        assert coordinator.snapshot().units_done == _UNITS // 2
        return weight
    finally:
        tracemalloc.stop()


def test_a_coordinators_memory_grows_with_units_and_not_with_rows() -> None:
    assert _weight(1_000_000) == pytest.approx(_weight(100), rel=0.1)
