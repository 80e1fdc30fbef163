"""Small real things that many tests start from: a job, a tokenizer, a model folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from safetensors.numpy import save_file
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, normalizers

from pipeline import Job, job_from
from pipeline.model.geometry import Geometry

# the same examples on every run, however slow the machine
quick = settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

GEMMA_270M = Geometry(
    n_global=3,
    n_sliding=15,
    hidden=640,
    ffn=2048,
    query_heads=4,
    kv_heads=1,
    head_dim=256,
    sliding_window=512,
    vocabulary=262_144,
    context=32_768,
)
GEMMA_27B = Geometry(
    n_global=10,
    n_sliding=52,
    hidden=5376,
    ffn=21_504,
    query_heads=32,
    kv_heads=16,
    head_dim=128,
    sliding_window=1024,
    vocabulary=262_144,
    context=131_072,
)

CONFIG_270M: dict[str, Any] = {
    "model_type": "gemma3_text",
    "dtype": "bfloat16",
    "num_hidden_layers": 18,
    "hidden_size": 640,
    "intermediate_size": 2048,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "sliding_window": 512,
    "vocab_size": 262_144,
    "max_position_embeddings": 32_768,
    "layer_types": [
        "full_attention" if (layer + 1) % 6 == 0 else "sliding_attention" for layer in range(18)
    ],
}

BASE_JOB: dict[str, Any] = {
    "name": "sample",
    "model": "gemma-3-270m",
    "input": {"path": "in.parquet"},
    "prompt": "{text}",
    "output": {"path": "out"},
}

SPECIALS = ("<pad>", "<eos>", "<bos>", "<unk>")
# What the sample tokenizer knows beyond single characters. `=▁` grows over a prompt's end.
PIECES = ("=▁", "▁no", "thing", "▁pos", "itive", "▁neg", "ative", "utral", "▁yes")

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role not in ('system', 'user', 'assistant') %}"
    "{{ raise_exception('a role nobody has') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[model]{% endif %}"
)


def job(**changes: Any) -> Job:
    """The base job with some keys put over it; a key given as None is left out."""
    content = BASE_JOB | changes
    return job_from({k: v for k, v in content.items() if v is not None})


def write_tokenizer(folder: Path, *, bos: bool = True, chat_template: str | None = None) -> Path:
    """A BPE over printable ASCII and ``PIECES``, with Gemma's way of writing spaces."""
    characters = [chr(c) for c in range(33, 127)] + ["\n", "▁"]
    vocabulary = {token: i for i, token in enumerate((*SPECIALS, *characters))}
    merges: list[tuple[str, str]] = []
    for piece in PIECES:
        for end in range(2, len(piece) + 1):
            if piece[:end] not in vocabulary:
                vocabulary[piece[:end]] = len(vocabulary)
                merges.append((piece[: end - 1], piece[end - 1]))
    fast = FastTokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    fast.normalizer = normalizers.Replace(" ", "▁")
    fast.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    fast.add_special_tokens(list(SPECIALS))
    folder.mkdir(parents=True, exist_ok=True)
    fast.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {"eos_token": "<eos>"}
    if bos:
        config["bos_token"] = "<bos>"
    if chat_template is not None:
        config["chat_template"] = chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def write_model(folder: Path, *, chat_template: str | None = None) -> Path:
    """A checkpoint folder with everything but useful weights."""
    write_tokenizer(folder, chat_template=chat_template)
    (folder / "config.json").write_text(json.dumps(CONFIG_270M), encoding="utf-8")
    save_file({"w": np.zeros(4, np.float32)}, folder / "model.safetensors")
    return folder


def lines(path: Path, texts: Sequence[str]) -> str:
    """Write lines to a file; its path as job files have it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return str(path)


def json_lines(path: Path, rows: Sequence[object]) -> str:
    """Write rows as JSON Lines; the file's path as job files have it."""
    return lines(path, [json.dumps(row) for row in rows])
