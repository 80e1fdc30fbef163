"""A whole Gemma 3 checkpoint of a few kilobytes: config, tokenizer and weights that agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, normalizers

from pipeline.model.families.gemma3.shapes import geometry_of, layer_shapes
from pipeline.model.folder import describe_files, write_provenance
from tests.support.samples import SPECIALS

GROUP = 32
CONFIG: dict[str, Any] = {
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "dtype": "bfloat16",
    "num_hidden_layers": 6,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "sliding_window": 512,
    "vocab_size": 288,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
}


def config(bits: int = 4, **changes: Any) -> dict[str, Any]:
    """``bits`` 16: not quantized."""
    content = CONFIG | changes
    if bits < 16:
        weights = {"num_bits": bits, "strategy": "group", "group_size": GROUP, "symmetric": True}
        content["quantization_config"] = {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
            "ignore": ["lm_head"],
        }
    return content


def tensors(bits: int = 4) -> dict[str, torch.Tensor]:
    """Weights of the shapes that ``config`` promises."""
    made: dict[str, torch.Tensor] = {}
    geometry = geometry_of(CONFIG)
    for layer in range(geometry.layers):
        for module, shape in layer_shapes(geometry).items():
            name = f"model.layers.{layer}.{module}.weight"
            if bits < 16 and module.endswith("_proj"):
                rows, columns = shape
                made[f"{name}_packed"] = torch.zeros(rows, columns * bits // 32, dtype=torch.int32)
                made[f"{name}_scale"] = torch.ones(rows, columns // GROUP, dtype=torch.bfloat16)
                made[f"{name}_shape"] = torch.tensor(shape, dtype=torch.int64)
            else:
                made[name] = torch.zeros(shape, dtype=torch.bfloat16)
    made["model.embed_tokens.weight"] = torch.zeros(288, 64, dtype=torch.bfloat16)
    made["model.norm.weight"] = torch.zeros(64, dtype=torch.bfloat16)
    return made


def write_byte_tokenizer(folder: Path, *, bos: str = "<bos>") -> None:
    """Every byte is a token, so that every text comes back as it was."""
    tokens = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    fast = FastTokenizer(
        models.BPE({t: i for i, t in enumerate(tokens)}, [], unk_token="<unk>", byte_fallback=True)
    )
    fast.normalizer = normalizers.Replace(" ", "▁")
    fast.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    fast.add_special_tokens(list(SPECIALS))
    fast.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": bos}))


def write(folder: Path, bits: int = 4) -> Path:
    """The checkpoint, with the ``rackmill.json`` of one that was made here."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(bits)))
    write_byte_tokenizer(folder)
    save_file(tensors(bits), folder / "model.safetensors")
    write_provenance(folder, {"source": "tiny.gguf", **describe_files(folder)})
    return folder
