from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from pipeline.model.tokenizer import Tokenizer
from pipeline.storage.base import Storage, open_storage
from tests.samples import CHAT_TEMPLATE, write_tokenizer


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


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A small tokenizer of a base model."""
    return Tokenizer(write_tokenizer(tmp_path_factory.mktemp("base")))


@pytest.fixture(scope="session")
def chat_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A small tokenizer of a chat model."""
    folder = tmp_path_factory.mktemp("chat")
    return Tokenizer(write_tokenizer(folder, chat_template=CHAT_TEMPLATE))


@pytest.fixture(autouse=True, scope="module")
def _large(large_units: None) -> None:
    """A few hundred rows are a few units."""
