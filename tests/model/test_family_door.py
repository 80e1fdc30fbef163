"""A family of models from outside: one line registers it, and its models are read and run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from pipeline import UsageError
from pipeline.model.convert.gguf_file import GgufFile
from pipeline.model.families import registry
from pipeline.model.families.gemma3.family import Gemma3
from pipeline.model.geometry import Geometry
from tests.chaos.in_process import run_here
from tests.model.tiny_gguf import write
from tests.support.datasets import job_in, write_input
from tests.support.samples import write_model

SMALL = Geometry(1, 3, 32, 64, 2, 1, 16, 128, 4096, 2048)


class Toy(Gemma3):
    """Its ``config.json`` says little, and its tensors in GGUF files begin with "toy."."""

    title = "Toy"
    name = "toy"
    sizes = "one size"

    def has(self, config: Mapping[str, Any]) -> bool:
        return config.get("model_type") == "toy"

    def geometry(self, config: Mapping[str, Any]) -> Geometry:
        return SMALL

    def tensor_name(self, name: str) -> str | None:
        return f"toy.{name}"


@pytest.fixture
def _toy() -> Iterator[None]:
    registry.FAMILIES.add(Toy())
    yield
    registry.FAMILIES.remove("toy")


def toy_model(folder: Path) -> Path:
    write_model(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "toy"}))
    return folder


@pytest.mark.usefixtures("_toy")
def test_a_model_of_a_family_that_is_registered_does_a_job(tmp_path: Path) -> None:
    toy_model(tmp_path / "model")
    write_input(tmp_path / "rows", 40)

    run_here(job_in(tmp_path))

    assert ds.dataset(tmp_path / "out").to_table()["id"].to_pylist() == list(range(40))
    assert registry.read_geometry(tmp_path / "model") == SMALL


@pytest.mark.usefixtures("_toy")
def test_its_gguf_files_are_read_under_its_names(tmp_path: Path) -> None:
    file = GgufFile(write(tmp_path / "a.gguf", architecture="toy"))

    assert all(tensor.name.startswith("toy.") for tensor in file.tensors())


def test_a_family_that_nobody_registered_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds a toy model; rackmill runs Gemma 3"):
        registry.read_geometry(toy_model(tmp_path))
