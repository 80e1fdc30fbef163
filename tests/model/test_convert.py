"""GGUF to a checkpoint folder; the tokenizer, which needs a whole vocabulary, left out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.model import convert as conversion
from pipeline.model.convert import convert
from pipeline.model.geometry import read_geometry
from pipeline.model.gguf_file import GgufFile
from pipeline.model.quantize import quantize
from pipeline.model.store import PROVENANCE_FILE
from tests.model.tiny_gguf import HIDDEN, LAYERS, write


@pytest.fixture(autouse=True)
def no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "write_tokenizer", lambda source, folder, template: None)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny.gguf", layers=2)


def test_linear_layers_become_codes_scales_and_shape(tmp_path: Path, source: Path) -> None:
    tensors = load_file(convert(source, tmp_path / "out") / "model.safetensors")
    original = next(
        t for t in GgufFile(source).tensors() if t.name.endswith("0.mlp.up_proj.weight")
    )
    int4 = quantize(torch.from_numpy(original.float32()), 32)

    assert torch.equal(tensors[f"{original.name}_packed"], int4.packed())
    assert torch.equal(tensors[f"{original.name}_scale"], int4.scales)
    assert tensors[f"{original.name}_shape"].tolist() == list(original.shape)
    assert original.name not in tensors


def test_embeddings_and_norms_become_bfloat16(tmp_path: Path, source: Path) -> None:
    tensors = load_file(convert(source, tmp_path / "out") / "model.safetensors")

    assert tensors["model.embed_tokens.weight"].dtype == torch.bfloat16
    assert torch.equal(tensors["model.norm.weight"], torch.full((HIDDEN,), 0.5).bfloat16())


def test_a_tied_output_head_is_left_out(tmp_path: Path) -> None:
    source = write(tmp_path / "tiny.gguf", layers=1, more=("output.weight",))

    tensors = load_file(convert(source, tmp_path / "out") / "model.safetensors")
    assert "lm_head.weight" not in tensors


def test_without_a_group_size_nothing_is_quantized(tmp_path: Path, source: Path) -> None:
    folder = convert(source, tmp_path / "out", group_size=None)

    assert {t.dtype for t in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())


def test_the_config_says_what_vllm_needs_to_know(tmp_path: Path, source: Path) -> None:
    folder = convert(source, tmp_path / "out", group_size=16)
    config = json.loads((folder / "config.json").read_text())
    [group] = config["quantization_config"]["config_groups"].values()

    assert config["quantization_config"]["format"] == "pack-quantized"
    assert (group["weights"]["num_bits"], group["weights"]["group_size"]) == (4, 16)
    assert read_geometry(folder).hidden == HIDDEN


def test_the_folder_says_what_it_came_from(tmp_path: Path, source: Path) -> None:
    folder = convert(source, tmp_path / "out", licence="mine")
    provenance = json.loads((folder / PROVENANCE_FILE).read_text())
    weights = (folder / "model.safetensors").read_bytes()

    assert provenance["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert provenance["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert (provenance["quantization"], provenance["licence"]) == ("int4 group 32", "mine")


def test_progress_ends_with_all_bytes(tmp_path: Path, source: Path) -> None:
    seen: list[tuple[int, int]] = []
    convert(source, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))

    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0
    assert len(seen) == 2 + 13 * 2


def test_a_conversion_that_fails_leaves_nothing(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no tokenizer")

    monkeypatch.setattr(conversion, "write_tokenizer", fail)

    with pytest.raises(RuntimeError):
        convert(source, tmp_path / "models" / "out")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_conversion_that_another_process_finished_first_is_taken(
    tmp_path: Path, source: Path
) -> None:
    first = convert(source, tmp_path / "models" / "out")
    before = (first / PROVENANCE_FILE).read_bytes()

    assert convert(source, first) == first
    assert (first / PROVENANCE_FILE).read_bytes() == before
    assert [p.name for p in first.parent.iterdir()] == ["out"]


def test_layers_are_all_there(tmp_path: Path) -> None:
    source = write(tmp_path / "tiny.gguf")
    tensors = load_file(convert(source, tmp_path / "out") / "model.safetensors")

    assert len(tensors) == 2 + LAYERS * (7 * 3 + 6)
