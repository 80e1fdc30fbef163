"""Sizes and tensors of Gemma 3 text models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.model.geometry import Geometry

PATTERN = 6  # if the config does not say, every sixth layer is global
_LAYERS_27B = 62
# of the SigLIP tower, the same for 4B, 12B and 27B (vLLM 0.32 ``model_executor/models/siglip.py``)
_VISION_HIDDEN, _VISION_FFN, _VISION_LAYERS = 1152, 4304, 27
_PATCH, _CHANNELS, _PATCHES = 14, 3, 64 * 64
_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


def geometry_of(config: Mapping[str, Any]) -> Geometry:
    """From a ``config.json``, text-only or with a vision tower. Raises KeyError."""
    text = config.get("text_config", config)
    layers = int(text["num_hidden_layers"])
    kinds = text.get("layer_types")
    if kinds is None:
        n_global = layers // int(text.get("sliding_window_pattern", PATTERN))
    else:
        n_global = sum(kind == "full_attention" for kind in kinds)
    return Geometry(
        n_global=n_global,
        n_sliding=layers - n_global,
        hidden=int(text["hidden_size"]),
        ffn=int(text["intermediate_size"]),
        query_heads=int(text["num_attention_heads"]),
        kv_heads=int(text["num_key_value_heads"]),
        head_dim=int(text["head_dim"]),
        sliding_window=int(text["sliding_window"]),
        vocabulary=int(text["vocab_size"]),
        context=int(text["max_position_embeddings"]),
    )


def query_scalar(layers: int, hidden: int, heads: int, head_dim: int) -> int:
    """By the square root of what queries are scaled. Only 27B has another one than its head's size;
    llama.cpp does not write it into the metadata either, but knows it from the number of layers."""
    return hidden // heads if layers == _LAYERS_27B else head_dim


def layer_shapes(geometry: Geometry) -> dict[str, tuple[int, ...]]:
    """The modules of one layer -> the shape of their weights, (rows, columns) or (size,)."""
    hidden, ffn = geometry.hidden, geometry.ffn
    query = geometry.query_heads * geometry.head_dim
    key_value = geometry.kv_heads * geometry.head_dim
    return {
        "self_attn.q_proj": (query, hidden),
        "self_attn.k_proj": (key_value, hidden),
        "self_attn.v_proj": (key_value, hidden),
        "self_attn.o_proj": (hidden, query),
        "mlp.gate_proj": (ffn, hidden),
        "mlp.up_proj": (ffn, hidden),
        "mlp.down_proj": (hidden, ffn),
        "self_attn.q_norm": (geometry.head_dim,),
        "self_attn.k_norm": (geometry.head_dim,),
    } | dict.fromkeys(_NORMS, (hidden,))


def tensor_shapes(geometry: Geometry) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of the text model, by its name in a text-only checkpoint."""
    layer = layer_shapes(geometry)
    return {
        "model.embed_tokens.weight": (geometry.vocabulary, geometry.hidden),
        **{
            f"model.layers.{i}.{module}.weight": shape
            for i in range(geometry.layers)
            for module, shape in layer.items()
        },
        "model.norm.weight": (geometry.hidden,),
    }


def vision_parameters(geometry: Geometry) -> int:
    """Parameters of the vision tower and of its projector to a text model of that geometry."""
    hidden, ffn = _VISION_HIDDEN, _VISION_FFN
    attention = 4 * (hidden * hidden + hidden)
    mlp = 2 * hidden * ffn + ffn + hidden
    layer = attention + mlp + 2 * 2 * hidden
    embeddings = _CHANNELS * _PATCH * _PATCH * hidden + hidden + _PATCHES * hidden
    projector = hidden * geometry.hidden + hidden
    return _VISION_LAYERS * layer + embeddings + 2 * hidden + projector
