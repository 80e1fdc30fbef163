from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.queue.a_rack import QueueOnRack


@pytest.fixture
def rack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> QueueOnRack:
    """A queue on a rack with two cards."""
    return QueueOnRack(tmp_path / "queue.db", monkeypatch)
