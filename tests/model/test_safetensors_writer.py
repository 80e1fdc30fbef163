"""A file written in pieces is the one that safetensors itself would write."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.model.convert.safetensors_writer import SafetensorsWriter, TensorSlot

TENSORS = {
    "a_packed": torch.arange(24, dtype=torch.int32).view(6, 4),
    "a_scale": torch.linspace(0, 1, 12).bfloat16().view(6, 2),
    "a_shape": torch.tensor([6, 32]),
    "norm": torch.ones(5, dtype=torch.bfloat16),
}


@pytest.fixture
def writer(tmp_path: Path) -> SafetensorsWriter:
    slots = [TensorSlot(name, t.dtype, tuple(t.shape)) for name, t in TENSORS.items()]
    return SafetensorsWriter(tmp_path / "a.safetensors", slots)


def test_blocks_of_rows_in_any_interleaving_come_back(
    tmp_path: Path, writer: SafetensorsWriter
) -> None:
    for row in range(0, 6, 2):
        for name in ("a_scale", "a_packed"):
            writer.write(name, TENSORS[name][row : row + 2])
    writer.write("norm", TENSORS["norm"])
    writer.write("a_shape", TENSORS["a_shape"])
    digest = writer.close()

    found = load_file(tmp_path / "a.safetensors")
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)
    content = (tmp_path / "a.safetensors").read_bytes()
    assert digest == hashlib.sha256(content).hexdigest()


def test_missing_rows_are_noticed(writer: SafetensorsWriter) -> None:
    writer.write("a_packed", TENSORS["a_packed"][:5])

    with writer, pytest.raises(ValueError, match="fewer rows than announced for a_packed"):
        writer.close()


def test_too_many_rows_are_noticed(writer: SafetensorsWriter) -> None:
    writer.write("a_packed", TENSORS["a_packed"])

    with writer, pytest.raises(ValueError, match="more rows than announced for a_packed"):
        writer.write("a_packed", TENSORS["a_packed"])
