"""GGUF → a checkpoint folder that vLLM loads: compressed-tensors int4, or plain bf16."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from pipeline.model.gguf_file import GgufFile, GgufTensor
from pipeline.model.quantize import BITS, quantize
from pipeline.model.store import PROVENANCE_FILE
from pipeline.model.tokenizer_files import write_tokenizer


def convert(
    source: Path,
    target: Path,
    *,
    group_size: int | None = 32,
    licence: str = "gemma",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write the model of ``source`` (a .gguf file) into the new folder ``target``.

    Linear layers become int4 with one scale per ``group_size`` weights (None: everything bf16);
    embeddings and norms become bf16. ``progress`` is called with (bytes done, bytes in all).
    The folder appears whole or not at all. Returns ``target``.
    """
    gguf = GgufFile(source)
    config = gguf.config()
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        tensors = list(gguf.tensors())
        total = sum(int(t.raw.n_bytes) for t in tensors)
        done = 0
        converted: dict[str, torch.Tensor] = {}
        for tensor in tensors:
            if tensor.name != "lm_head.weight":  # tied to the embeddings
                converted |= _convert_tensor(tensor, group_size)
            done += int(tensor.raw.n_bytes)
            progress(done, total)
        weights = staging / "model.safetensors"
        save_file(converted, weights, metadata={"format": "pt"})
        weights.chmod(0o644)
        if group_size is not None:
            config["quantization_config"] = _quantization_config(group_size)
        _write_json(staging / "config.json", config)
        _write_json(staging / "generation_config.json", _generation_config(config))
        write_tokenizer(source, staging, gguf.chat_template)
        _write_json(
            staging / PROVENANCE_FILE,
            {
                "source": source.name,
                "source_sha256": sha256_of(source),
                "weights_sha256": sha256_of(weights),
                "quantization": f"int4 group {group_size}" if group_size else "bf16",
                "licence": licence,
            },
        )
        os.chmod(staging, 0o755)
        try:
            os.replace(staging, target)
        except OSError:
            if not (target / PROVENANCE_FILE).exists():  # else another process was faster
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def _convert_tensor(tensor: GgufTensor, group_size: int | None) -> dict[str, torch.Tensor]:
    weights = torch.from_numpy(tensor.float32())
    if group_size is None or not tensor.is_linear:
        return {tensor.name: weights.bfloat16()}
    int4 = quantize(weights, group_size)
    return {
        f"{tensor.name}_packed": int4.packed(),
        f"{tensor.name}_scale": int4.scales,
        f"{tensor.name}_shape": torch.tensor(tensor.shape, dtype=torch.int64),
    }


def _quantization_config(group_size: int) -> dict[str, Any]:
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {
                    "num_bits": BITS,
                    "type": "int",
                    "symmetric": True,
                    "strategy": "group",
                    "group_size": group_size,
                    "dynamic": False,
                },
                "input_activations": None,
                "output_activations": None,
            }
        },
        "ignore": ["lm_head"],
    }


def _generation_config(config: dict[str, Any]) -> dict[str, Any]:
    return {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
