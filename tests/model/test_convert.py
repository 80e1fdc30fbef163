"""GGUF to a checkpoint folder: what is in it, and that it appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file

from pipeline import UsageError
from pipeline.model.convert import convert as conversion
from pipeline.model.convert import plan as conversion_plan
from pipeline.model.convert.convert import convert
from pipeline.model.convert.gguf_file import GgufFile
from pipeline.model.convert.quantize import quantize
from pipeline.model.families.registry import read_geometry
from pipeline.model.folder import PROVENANCE_FILE
from pipeline.model.store import staging
from tests.model.tiny_gguf import HIDDEN, LAYERS, write

LINEAR = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
NO_TEXTS: tuple[str, ...] = ()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny.gguf", layers=2)


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in folder.glob("*.safetensors"):
        found |= load_file(file)
    return found


def made(source: Path, target: Path, **settings: Any) -> dict[str, torch.Tensor]:
    return tensors_of(convert(source, target, **{"calibration": NO_TEXTS, **settings}).folder)


def refusal(source: Path, target: Path, **settings: Any) -> str:
    with pytest.raises(UsageError) as caught:
        convert(source, target, **{"calibration": NO_TEXTS, **settings})
    return str(caught.value)


class TestTensors:
    def test_linear_layers_become_codes_scales_and_shape(
        self, tmp_path: Path, source: Path
    ) -> None:
        tensors = made(source, tmp_path / "out")
        original = next(
            t for t in GgufFile(source).tensors() if t.name.endswith("0.mlp.up_proj.weight")
        )
        int4 = quantize(torch.from_numpy(original.float32()), 32)

        assert torch.equal(tensors[f"{original.name}_packed"], int4.packed())
        assert torch.equal(tensors[f"{original.name}_scale"], int4.scales)
        assert tensors[f"{original.name}_shape"].tolist() == list(original.shape)
        assert original.name not in tensors

    def test_embeddings_and_norms_become_bfloat16(self, tmp_path: Path, source: Path) -> None:
        tensors = made(source, tmp_path / "out")

        assert tensors["model.embed_tokens.weight"].dtype == torch.bfloat16
        assert torch.equal(tensors["model.norm.weight"], torch.full((HIDDEN,), 0.5).bfloat16())

    def test_a_tied_output_head_is_left_out(self, tmp_path: Path) -> None:
        source = write(tmp_path / "tiny.gguf", layers=1, more=("output.weight",))

        assert "lm_head.weight" not in made(source, tmp_path / "out")

    def test_at_bf16_nothing_is_quantized(self, tmp_path: Path, source: Path) -> None:
        tensors = made(source, tmp_path / "out", precision="bf16")

        assert {t.dtype for t in tensors.values()} == {torch.bfloat16}
        assert "quantization_config" not in json.loads((tmp_path / "out/config.json").read_text())

    def test_layers_are_all_there(self, tmp_path: Path) -> None:
        tensors = made(write(tmp_path / "tiny.gguf"), tmp_path / "out")

        assert len(tensors) == 2 + LAYERS * (7 * 3 + 6)

    def test_with_keep_bf16_what_has_no_codes_to_keep_stays_with_those_it_is_fused_with(
        self, tmp_path: Path
    ) -> None:
        """attn_v is no Q4_0, so vLLM's fused q, k, v must all be bfloat16."""
        kinds = dict.fromkeys(LINEAR, Kind.Q4_0) | {"attn_v": Kind.Q8_0}
        source = write(tmp_path / "a.gguf", layers=1, kinds=kinds)
        tensors = made(source, tmp_path / "out", keep_bf16=True)
        config = json.loads((tmp_path / "out/config.json").read_text())

        layer = "model.layers.0"
        kept = [f"{layer}.self_attn.{m}_proj" for m in "qkv"]
        assert config["quantization_config"]["ignore"] == ["lm_head", *kept]
        assert {n for n in tensors if n.endswith("_proj.weight")} == {f"{n}.weight" for n in kept}
        assert f"{layer}.self_attn.o_proj.weight_packed" in tensors
        rows = json.loads((tmp_path / "out" / PROVENANCE_FILE).read_text())["tensor_types"]
        assert {(r["storage_type"], r["kind"], r["what"], r["tensors"]) for r in rows} >= {
            ("Q4_0", "linear", "codes kept", 4),
            ("Q4_0", "linear", "bf16", 2),
            ("Q8_0", "linear", "bf16", 1),
        }


class TestFolder:
    def test_the_config_says_what_vllm_needs_to_know(self, tmp_path: Path, source: Path) -> None:
        made(source, tmp_path / "out", group_size=16)
        config = json.loads((tmp_path / "out/config.json").read_text())
        [group] = config["quantization_config"]["config_groups"].values()

        assert config["quantization_config"]["format"] == "pack-quantized"
        assert (group["weights"]["num_bits"], group["weights"]["group_size"]) == (4, 16)
        assert read_geometry(tmp_path / "out").hidden == HIDDEN

    def test_it_says_what_it_came_from(self, tmp_path: Path, source: Path) -> None:
        facts = {"repository": "a/b", "revision": "c"}
        convert(source, tmp_path / "out", calibration=NO_TEXTS, source_facts=facts)
        provenance = json.loads((tmp_path / "out" / PROVENANCE_FILE).read_text())
        weights = (tmp_path / "out/model.safetensors").read_bytes()

        assert provenance["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
        assert provenance["weights_sha256"] == hashlib.sha256(weights).hexdigest()
        assert provenance["quantization"] == "int4 group 32"
        assert provenance["licence"].startswith("Gemma Terms of Use")
        assert (provenance["repository"], provenance["revision"]) == ("a/b", "c")

    def test_two_conversions_are_the_same_weights(self, tmp_path: Path, source: Path) -> None:
        hashes = set()
        for name in ("one", "two"):
            made(source, tmp_path / name)
            hashes.add(
                json.loads((tmp_path / name / PROVENANCE_FILE).read_text())["weights_sha256"]
            )

        assert len(hashes) == 1

    def test_the_report_tells_every_type_and_is_kept(self, tmp_path: Path, source: Path) -> None:
        report = convert(source, tmp_path / "out", calibration=NO_TEXTS)
        stored = json.loads((tmp_path / "out" / PROVENANCE_FILE).read_text())
        q4_0, rest = (
            next(r for r in report.tensor_types if (r["storage_type"], r["kind"]) == which)
            for which in (("Q4_0", "linear"), ("F32", "linear"))
        )

        assert stored["tensor_types"] == report.as_json()["tensor_types"] == report.tensor_types
        assert (q4_0["tensors"], q4_0["what"]) == (2, "codes kept")
        assert 0 < q4_0["relative_error"] < 2**-8
        assert 0.05 < rest["relative_error"] < 0.12
        assert sum(r["tensors"] for r in report.tensor_types) == 2 + 13 * 2

    def test_progress_ends_with_all_bytes(self, tmp_path: Path, source: Path) -> None:
        seen: list[tuple[int, int]] = []
        convert(
            source,
            tmp_path / "out",
            calibration=NO_TEXTS,
            progress=lambda done, total: seen.append((done, total)),
        )

        assert seen == sorted(seen)
        assert seen[-1][0] == seen[-1][1] > 0

    def test_a_large_model_is_written_in_shards_with_an_index(
        self, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = made(source, tmp_path / "whole")
        monkeypatch.setattr(conversion_plan, "SHARD_BYTES", 8_000)
        parts = made(source, tmp_path / "parts")
        index = json.loads((tmp_path / "parts/model.safetensors.index.json").read_text())

        assert len(list((tmp_path / "parts").glob("model-*-of-*.safetensors"))) > 2
        assert whole.keys() == parts.keys() == index["weight_map"].keys()
        assert all(torch.equal(whole[name], parts[name]) for name in whole)
        for name, file in index["weight_map"].items():
            assert name in load_file(tmp_path / "parts" / file)


class TestWholeOrNotAtAll:
    def test_a_failure_leaves_nothing(
        self, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise RuntimeError("no tokenizer")

        monkeypatch.setattr(conversion, "write_tokenizer", fail)

        with pytest.raises(RuntimeError):
            convert(source, tmp_path / "models" / "out", calibration=NO_TEXTS)
        assert list((tmp_path / "models").iterdir()) == []

    def test_a_conversion_that_another_process_finished_first_is_taken(
        self, tmp_path: Path, source: Path
    ) -> None:
        first = convert(source, tmp_path / "models" / "out", calibration=NO_TEXTS)
        before = (first.folder / PROVENANCE_FILE).read_bytes()

        assert convert(source, first.folder, calibration=NO_TEXTS) == first
        assert (first.folder / PROVENANCE_FILE).read_bytes() == before
        assert [p.name for p in first.folder.parent.iterdir()] == ["out"]

    def test_a_folder_that_holds_something_else_is_left_alone(
        self, tmp_path: Path, source: Path
    ) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/mine").touch()

        assert "exists and holds something else" in refusal(source, tmp_path / "out")
        assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]

    def test_after_a_kill_the_finished_shards_are_kept(self, tmp_path: Path, source: Path) -> None:
        """The child kills itself when it has written half; the second attempt goes on."""
        script = f"""
import os, signal
from pathlib import Path
from pipeline.model.convert import plan
from pipeline.model.convert.convert import convert
plan.SHARD_BYTES = 8_000
def kill_in_the_middle(done, total):
    if 2 * done > total:
        os.kill(os.getpid(), signal.SIGKILL)
convert(Path({str(source)!r}), Path({str(tmp_path / "out")!r}), calibration=(),
        progress=kill_in_the_middle)
"""
        killed = subprocess.run([sys.executable, "-c", script], check=False)
        assert killed.returncode == -signal.SIGKILL
        assert not (tmp_path / "out").exists()
        partial = staging.staging_path(tmp_path / "out")
        state = json.loads((partial / staging.STATE_FILE).read_text())
        kept = {name: (partial / name).stat().st_ino for name in state["shards"]}
        assert len(kept) > 1
        (partial / max(kept)).write_bytes(b"damaged meanwhile")

        whole = made(source, tmp_path / "whole")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(conversion_plan, "SHARD_BYTES", 8_000)
            resumed = made(source, tmp_path / "out")

        assert all(torch.equal(whole[name], resumed[name]) for name in whole)
        for name in sorted(kept)[:-1]:
            assert (tmp_path / "out" / name).stat().st_ino == kept[name]
        assert not partial.exists()

    def test_what_another_conversion_left_is_thrown_away(
        self, tmp_path: Path, source: Path
    ) -> None:
        partial = staging.staging_path(tmp_path / "out")
        partial.mkdir()
        (partial / staging.STATE_FILE).write_text('{"key": "other", "shards": {}}')
        (partial / "model-00001-of-00009.safetensors").write_bytes(b"old")

        made(source, tmp_path / "out")
        assert len(list((tmp_path / "out").glob("*.safetensors"))) == 1

    def test_too_little_disk_is_said_before_a_byte_is_written(
        self, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))

        said = refusal(source, tmp_path / "models" / "out")
        assert "needs" in said
        assert "free space there" in said
        assert os.listdir(tmp_path / "models") == []

    def test_a_missing_source_in_the_middle_is_raised_as_it_is(
        self, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def vanish(*_: object) -> None:
            raise FileNotFoundError("gone")

        monkeypatch.setattr(conversion, "write_tokenizer", vanish)

        with pytest.raises(FileNotFoundError, match="gone"):
            convert(source, tmp_path / "models" / "out", calibration=NO_TEXTS)
        assert list((tmp_path / "models").iterdir()) == []

    def test_two_at_once_make_one(self, tmp_path: Path, source: Path) -> None:
        with ThreadPoolExecutor() as pool:
            futures = [
                pool.submit(convert, source, tmp_path / "models" / "out", calibration=NO_TEXTS)
                for _ in range(2)
            ]
            one, two = (f.result() for f in futures)

        assert one == two
        assert [p.name for p in (tmp_path / "models").iterdir()] == ["out"]


class TestCorrupt:
    def test_scales_that_are_no_numbers(self, tmp_path: Path, source: Path) -> None:
        file = GgufFile(source)
        q4_0 = next(t for t in file.tensors() if t.storage_type == "Q4_0")
        content = bytearray(source.read_bytes())
        content[q4_0.span.offset : q4_0.span.offset + 2] = np.float16(np.inf).tobytes()
        source.write_bytes(content)

        said = refusal(source, tmp_path / "models" / "out")
        assert "blk.0.attn_q.weight holds values that are not finite" in said
        assert os.listdir(tmp_path / "models") == []

    @pytest.mark.parametrize("kept", [0.05, 0.5, 0.99])
    def test_a_file_that_was_cut_off_leaves_nothing(
        self, tmp_path: Path, source: Path, kept: float
    ) -> None:
        content = source.read_bytes()
        source.write_bytes(content[: int(kept * len(content))])

        assert "not a readable GGUF file" in refusal(source, tmp_path / "models" / "out")
        assert not (tmp_path / "models").exists()

    def test_codes_that_another_group_size_loses_are_told(
        self, tmp_path: Path, source: Path
    ) -> None:
        report = convert(source, tmp_path / "out", calibration=NO_TEXTS, group_size=16)
        [row] = [r for r in report.tensor_types if r["storage_type"] == "Q4_0"]

        assert row["what"].endswith("(codes are kept in groups of 32 only)")

    def test_groups_that_do_not_divide_the_columns(self, tmp_path: Path, source: Path) -> None:
        assert "groups of 48" in refusal(source, tmp_path / "out", group_size=48)

    def test_a_tokenizer_that_is_none_of_gemmas(self, tmp_path: Path) -> None:
        source = write(tmp_path / "a.gguf", layers=1, tokenizer=False)

        assert "its tokenizer is missing" in refusal(source, tmp_path / "out")


def test_every_type_that_gguf_can_write_is_converted(tmp_path: Path) -> None:
    for kind in (Kind.F16, Kind.BF16, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0):
        source = write(tmp_path / f"{kind.name}.gguf", layers=1, kinds=dict.fromkeys(LINEAR, kind))
        report = convert(source, tmp_path / kind.name, calibration=NO_TEXTS)
        [row] = [r for r in report.tensor_types if r["kind"] == "linear"]

        assert (row["storage_type"], row["tensors"]) == (kind.name, 7)
        assert row["relative_error"] < 0.12
        assert gguf.GGML_QUANT_SIZES[kind]
