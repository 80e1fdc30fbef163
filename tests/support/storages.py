"""The kinds of storage that tests write to, as fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from pipeline.storage.base import Storage, open_storage


@pytest.fixture
def memory() -> Iterator[str]:
    """The address of an object store that is empty and is emptied again."""
    fs = fsspec.filesystem("memory")
    yield "memory://bucket/run"
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


@pytest.fixture(params=["local", "object"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, memory: str) -> Storage:
    """Each kind of storage in turn, at a folder that is not there yet."""
    return open_storage(str(tmp_path / "run") if request.param == "local" else memory)
