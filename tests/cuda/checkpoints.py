"""Checkpoint folders of every size without weights: what our converter would write of Google's
files, and the same with a vision tower as other makers' checkpoints have it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGMLQuantizationType

from pipeline.model.catalogue import MODELS, CatalogueModel
from pipeline.model.convert.convert import _quantization
from pipeline.model.convert.gguf_file import GgufTensor
from pipeline.model.convert.gguf_header import ByteSpan
from pipeline.model.convert.plan import plan_conversion
from pipeline.model.convert.repack import GROUP_SIZE
from pipeline.model.families.gemma3.gguf_config import text_config
from pipeline.model.families.gemma3.shapes import tensor_shapes

SIZES = tuple(MODELS)
_KIND = GGMLQuantizationType.Q4_0  # of the linear layers in Google's QAT files
# of all Gemma 3 with vision: transformers' defaults, as Google's files have them
VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 896,
    "patch_size": 14,
    "vision_use_head": False,
}
Shapes = dict[str, tuple[str, tuple[int, ...]]]  # name -> dtype and shape


@dataclass(frozen=True)
class Checkpoint:
    """A folder with ``config.json`` alone. ``tensors``: what its files would hold of the text
    model."""

    model: CatalogueModel
    vision: bool
    folder: Path
    tensors: Shapes


def write(root: Path, size: str, *, vision: bool) -> Checkpoint:
    model = MODELS[size]
    config, shapes = _text(model)

    tensors = [_tensor(name, shape) for name, shape in shapes.items()]
    planned = plan_conversion(tensors, "int4", GROUP_SIZE, keep_bf16=False)
    quantized = _quantization(planned)["quantization_config"]
    if vision:
        quantized["ignore"] = ["lm_head", "re:.*vision_tower.*", "re:.*multi_modal_projector.*"]
        config = {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "model_type": "gemma3",
            "dtype": "bfloat16",
            "text_config": config,
            "vision_config": VISION,
            "mm_tokens_per_image": 256,
            "image_token_index": 262_144,
            "boi_token_index": 255_999,
            "eoi_token_index": 256_000,
        }
    folder = root / (size + ("-vision" if vision else ""))
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": quantized}))
    slots = (slot for one in planned for slot in one.slots)
    return Checkpoint(
        model, vision, folder, {s.name: (str(s.dtype), tuple(s.shape)) for s in slots}
    )


def _text(model: CatalogueModel) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """The config that the converter writes for Google's file of ``model``, and its tensors."""
    of = model.geometry
    fields = {
        "gemma3.block_count": of.layers,
        "gemma3.embedding_length": of.hidden,
        "gemma3.attention.head_count": of.query_heads,
        "gemma3.attention.head_count_kv": of.kv_heads,
        "gemma3.attention.key_length": of.head_dim,
        "gemma3.attention.sliding_window": of.sliding_window,
        "gemma3.feed_forward_length": of.ffn,
        "gemma3.context_length": of.context,
        "gemma3.rope.freq_base": 1e6,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.tokens": [],
    }
    shapes = tensor_shapes(of)
    return text_config(Path("a.gguf"), fields, shapes), shapes


def _tensor(name: str, shape: tuple[int, ...]) -> GgufTensor:
    return GgufTensor(name, shape, Path("a.gguf"), ByteSpan(name, shape, _KIND, 0, 0))
