from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.driver.workers import worker_handle
from tests.driver.driver_side import Rack


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
