"""Translates GGUF metadata of a Gemma 3 text model to transformers' Gemma3TextConfig."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.model.families.gemma3.shapes import PATTERN, geometry_of, query_scalar, tensor_shapes

# Fallbacks by number of layers, for files whose metadata lacks them: scale of the global layers'
# RoPE (transformers' Gemma 3 conversion table; llama.cpp writes rope.scaling.*)
_GLOBAL_ROPE_FACTOR = {34: 8.0, 48: 8.0, 62: 8.0}
_LOCAL_THETA = 10_000.0
_END_OF_TURN, _END_OF_TURN_ID = "<end_of_turn>", 106
_MOST = 1 << 24  # limit of any number: larger ones are corrupt


def text_config(
    path: Path, fields: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Any]:
    """The content of ``config.json``, without quantization.

    ``shapes``: of every tensor, by Hugging Face name. Raises UsageError for a missing field, a
    missing tensor, or a tensor whose shape contradicts the fields.
    """

    def get(key: str, default: Any = None) -> Any:
        value = fields.get(key, default)
        if value is None:
            raise UsageError(
                f"{path} lacks the metadata field {key}",
                "it was made by an old or foreign converter: take a current file of the model",
            )
        return value

    def arch(key: str, default: Any = None) -> Any:
        return get(f"gemma3.{key}", default)

    def number(key: str, default: float | None = None, most: float = _MOST, kind: Any = int) -> Any:
        value = arch(key, default)
        if not isinstance(value, kind) or not 0 < value <= most:
            raise UsageError(
                f"{path}: its metadata field gemma3.{key} is {value!r}", "download it again"
            )
        return value

    def real(key: str, default: float | None = None) -> float:
        return float(number(key, default, sys.float_info.max, int | float))

    def token(name: str, default: int | None = None) -> int:
        value = get(f"tokenizer.ggml.{name}_token_id", default)
        if not isinstance(value, int):
            raise UsageError(f"{path}: its {name} token is {value!r}", "download it again")
        return value

    layers, hidden = number("block_count", most=1000), number("embedding_length")
    heads, head_dim = number("attention.head_count"), number("attention.key_length")
    pattern = number("attention.sliding_window_pattern", PATTERN)
    embedding = shapes.get("model.embed_tokens.weight")
    if embedding is None:
        raise UsageError(f"{path} lacks the tensor token_embd.weight", "download it again")
    eos = [token("eos")]
    if fields.get("tokenizer.chat_template"):
        eos = list(dict.fromkeys([*eos, _end_of_turn(fields)]))
    config = {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "dtype": "bfloat16",
        "vocab_size": embedding[0],
        "hidden_size": hidden,
        "intermediate_size": number("feed_forward_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": number("attention.head_count_kv"),
        "head_dim": head_dim,
        "query_pre_attn_scalar": query_scalar(layers, hidden, heads, head_dim),
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": number("context_length", most=1 << 32),
        # stored as float32: 9.999999974752427e-07
        "rms_norm_eps": float(f"{real('attention.layer_norm_rms_epsilon', 1e-6):.6g}"),
        "sliding_window": number("attention.sliding_window"),
        "layer_types": [
            "sliding_attention" if (i + 1) % pattern else "full_attention" for i in range(layers)
        ],
        "rope_parameters": {
            "sliding_attention": {
                "rope_type": "default",
                "rope_theta": real("rope.freq_base_swa", _LOCAL_THETA),
            },
            "full_attention": _global_rope(path, arch, real, layers),
        },
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "use_cache": True,
        "tie_word_embeddings": True,
        "bos_token_id": token("bos"),
        "eos_token_id": eos if len(eos) > 1 else eos[0],
        "pad_token_id": token("padding", 0),
    }
    _check_shapes(path, config, shapes)
    return config


def _global_rope(path: Path, arch: Any, real: Any, layers: int) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": real("rope.freq_base")}
    scaling = str(arch("rope.scaling.type", ""))
    if scaling not in ("", "none", "linear"):
        raise UsageError(f"{path} scales RoPE by {scaling!r}; Gemma 3 knows linear scaling only")
    known = _GLOBAL_ROPE_FACTOR.get(layers, 1.0)
    factor = real("rope.scaling.factor", known) if scaling == "linear" else known
    if scaling != "none" and factor > 1:
        rope |= {"rope_type": "linear", "factor": factor}
    return rope


def _end_of_turn(fields: Mapping[str, Any]) -> int:
    tokens = fields.get("tokenizer.ggml.tokens", [])
    return tokens.index(_END_OF_TURN) if _END_OF_TURN in tokens else _END_OF_TURN_ID


def _check_shapes(
    path: Path, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    expected = tensor_shapes(geometry_of(config))
    missing = [name for name in expected if name not in shapes]
    if missing:
        raise UsageError(
            f"{path} lacks {len(missing)} tensors of the model it describes, first {missing[0]}",
            "it is one part of a split file, or was made wrongly: take the whole file",
        )
    for name, shape in shapes.items():
        if name == "lm_head.weight":  # tied: left out
            continue
        if name not in expected:
            raise UsageError(
                f"{path} holds {name}, beyond the {config['num_hidden_layers']} layers it tells of",
                "download it again",
            )
        if shape != expected[name]:
            raise UsageError(
                f"{path}: {name} has the shape {shape}, and its metadata asks for {expected[name]}",
                "download it again",
            )
