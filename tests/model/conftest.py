"""A store of its own for each test, and a hub on loopback that it fetches from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.model.folder import describe_files, now, sha256_of, write_provenance
from pipeline.model.store import resolve as store
from pipeline.model.store.build import content_key
from tests.support.hub import Hub
from tests.support.samples import write_model


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RACKMILL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        for variable in ("HF_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(variable, raising=False)
        yield hub


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were converted; the converting itself is tested elsewhere."""
    files: list[Path] = []

    def make(source: Path, target: Path, *, facts: Mapping[str, str], **more: Any) -> None:
        files.append(source)
        write_model(target)
        own = {"precision": more["precision"], "gguf_key": content_key(source), **facts}
        own |= {"source_sha256": sha256_of(source), "added": now()}
        write_provenance(target, own | describe_files(target))

    monkeypatch.setattr(store, "make_checkpoint", make)
    return files
