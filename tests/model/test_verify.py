"""Verifying a checkpoint: whole ones pass, and every fault is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipeline.model.folder import PROVENANCE_FILE, ModelFolder
from pipeline.model.store.steps import LineSteps
from pipeline.model.verify import Check, verify
from tests.model.tiny_checkpoint import config, tensors, write, write_byte_tokenizer

UP = "model.layers.3.mlp.up_proj"


def checks(folder: Path) -> dict[str, Check]:
    return {c.name: c for c in verify(ModelFolder("tiny", folder), LineSteps(lambda line: None))}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Without its ``rackmill.json``, so that files can be changed."""
    path = write(tmp_path / "tiny")
    (path / PROVENANCE_FILE).unlink()
    return path


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_a_whole_checkpoint_passes_every_check(tmp_path: Path, bits: int) -> None:
    found = checks(write(tmp_path, bits))

    assert [c for c in found.values() if not c.ok] == []
    assert list(found) == ["hashes", "config", "tensors", "tokenizer"]
    assert found["hashes"].detail == "4 files are as they were stored"


class TestHashes:
    @pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
    def test_a_changed_file_is_named(self, tmp_path: Path, file: str) -> None:
        path = write(tmp_path) / file
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

        check = checks(tmp_path)["hashes"]
        assert (check.ok, check.detail) == (False, f"{file} is not the file that was stored")

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        (write(tmp_path) / "tokenizer_config.json").unlink()

        assert checks(tmp_path)["hashes"].detail == "tokenizer_config.json is missing"

    def test_a_folder_of_others_has_none_to_compare(self, folder: Path) -> None:
        check = checks(folder)["hashes"]

        assert check.ok
        assert check.detail.startswith("not checked")


class TestTensors:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda t: t.pop(f"{UP}.weight_packed"), f"{UP}.weight_packed is missing"),
            (lambda t: t.pop(f"{UP}.weight_scale"), f"{UP}.weight_scale is missing"),
            (lambda t: t.pop("model.norm.weight"), "model.norm.weight is missing"),
            (
                lambda t: t.update({f"{UP}.weight_scale": torch.ones(96, 4).bfloat16()}),
                f"{UP}.weight_scale is BF16 [96, 4] instead of BF16 [96, 2]",
            ),
            (
                lambda t: t.update({f"{UP}.weight_packed": torch.zeros(96, 16, dtype=torch.int32)}),
                f"{UP}.weight_packed is I32 [96, 16] instead of I32 [96, 8]",
            ),
            (
                lambda t: t.update({f"{UP}.weight_shape": torch.tensor([64, 96])}),
                f"{UP}.weight_shape says [64, 96] instead of [96, 64]",
            ),
            (
                lambda t: t.update({"model.layers.6.mlp.up_proj.weight": torch.zeros(1)}),
                "model.layers.6.mlp.up_proj.weight belongs to no Gemma 3 of this shape",
            ),
        ],
    )
    def test_what_does_not_fit_the_config_is_named(
        self, folder: Path, change: Callable[[dict[str, torch.Tensor]], Any], said: str
    ) -> None:
        changed = tensors()
        change(changed)
        save_file(changed, folder / "model.safetensors")

        check = checks(folder)["tensors"]
        assert not check.ok
        assert said in check.detail

    @pytest.mark.parametrize(("ignored", "ok"), [(UP, True), (r"re:.*layers\.3\.mlp.*", False)])
    def test_a_layer_may_stay_whole_if_the_config_says_so(
        self, folder: Path, ignored: str, ok: bool
    ) -> None:
        changed = {n: t for n, t in tensors().items() if not n.startswith(UP)}
        save_file(
            changed | {f"{UP}.weight": tensors(16)[f"{UP}.weight"]}, folder / "model.safetensors"
        )
        content = config()
        assert not checks(folder)["tensors"].ok

        content["quantization_config"]["ignore"].append(ignored)
        (folder / "config.json").write_text(json.dumps(content))
        assert checks(folder)["tensors"].ok is ok

    def test_codes_without_a_config_for_them_are_refused(self, folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps(config(16)))

        assert "is quantized, but the config does not say so" in checks(folder)["tensors"].detail

    @pytest.mark.parametrize("kept", [0, 5, 1000, -1])
    def test_a_cut_off_file_is_refused(self, folder: Path, kept: int) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:kept])

        check = checks(folder)["tensors"]
        assert not check.ok
        assert "cut off" in check.detail

    def test_shards_are_read_together(self, folder: Path) -> None:
        every = tensors()
        first = {n: t for n, t in every.items() if "layers.1" in n}
        save_file(first, folder / "model-1.safetensors")
        save_file({n: t for n, t in every.items() if n not in first}, folder / "model.safetensors")
        assert checks(folder)["tensors"].ok

        save_file(every, folder / "model.safetensors")
        assert "is in model-1.safetensors and in" in checks(folder)["tensors"].detail

    def test_the_text_part_of_a_model_with_eyes_is_checked(self, folder: Path) -> None:
        renamed = {n.replace("model.", "language_model.model.", 1): t for n, t in tensors().items()}
        renamed["vision_tower.vision_model.post_layernorm.weight"] = torch.zeros(4)
        content = {"model_type": "gemma3", "text_config": config(16)}
        content |= {"quantization_config": config()["quantization_config"]}
        (folder / "config.json").write_text(json.dumps(content))
        save_file(renamed, folder / "model.safetensors")
        assert checks(folder)["tensors"].ok

        del renamed["language_model.model.norm.weight"]
        save_file(renamed, folder / "model.safetensors")
        assert "norm.weight is missing" in checks(folder)["tensors"].detail


class TestConfig:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"query_pre_attn_scalar": 256}, "query_pre_attn_scalar is 256.0 instead of 32.0"),
            ({"rms_norm_eps": 1e-5}, "rms_norm_eps is 1e-05"),
            ({"layer_types": ["sliding_attention"] * 6}, "layer_types is"),
            ({"model_type": "gemma2"}, "holds a gemma2 model"),
            ({"hidden_size": None}, "lacks"),
        ],
    )
    def test_what_no_gemma_3_has_is_named(
        self, folder: Path, changes: dict[str, Any], said: str
    ) -> None:
        (folder / "config.json").write_text(json.dumps(config(**changes)))

        check = checks(folder)["config"]
        assert not check.ok
        assert said in check.detail


class TestTokenizer:
    def test_one_without_bos_is_refused(self, folder: Path) -> None:
        write_byte_tokenizer(folder, bos="")

        assert "names no <bos>" in checks(folder)["tokenizer"].detail

    def test_one_whose_bos_is_another_token_is_refused(self, folder: Path) -> None:
        write_byte_tokenizer(folder, bos="<eos>")

        assert "not the bos_token_id" in checks(folder)["tokenizer"].detail

    def test_one_with_more_tokens_than_embeddings_is_refused(self, folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps(config(vocab_size=100)))

        assert "only 100 embeddings" in checks(folder)["tokenizer"].detail

    def test_one_that_loses_text_is_refused(self, folder: Path) -> None:
        path = folder / "tokenizer.json"
        content = json.loads(path.read_text())
        content["model"]["byte_fallback"] = False
        path.write_text(json.dumps(content))

        assert "comes back as" in checks(folder)["tokenizer"].detail

    def test_one_that_is_broken_is_refused(self, folder: Path) -> None:
        (folder / "tokenizer.json").write_text("{")

        assert "cannot be read" in checks(folder)["tokenizer"].detail
