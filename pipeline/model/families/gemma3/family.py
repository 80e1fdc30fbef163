"""Gemma 3 as a family of models."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.model.families.gemma3.gguf_config import text_config
from pipeline.model.families.gemma3.shapes import (
    geometry_of,
    layer_shapes,
    query_scalar,
    vision_parameters,
)
from pipeline.model.geometry import Geometry

if TYPE_CHECKING:
    import torch

# GGUF block tensors -> Hugging Face modules
_TOP_LEVEL = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_PER_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


class Gemma3:
    """See ``base.Family``."""

    title = "Gemma 3"
    name = "gemma3"
    sizes = "270M, 1B, 4B, 12B or 27B"
    licence = "Gemma Terms of Use (https://ai.google.dev/gemma/terms)"
    licence_tag = "gemma"
    tokenizer_class = "GemmaTokenizer"
    # old and new layout of a checkpoint with a vision tower
    prefixes = ("model.", "language_model.model.", "model.language_model.")

    @property
    def chat_template(self) -> str:
        return (Path(__file__).parent / "chat.jinja").read_text(encoding="utf-8")

    def has(self, config: Mapping[str, Any]) -> bool:
        return str(config.get("model_type", "")) in ("gemma3", "gemma3_text")

    geometry = staticmethod(geometry_of)
    layer_shapes = staticmethod(layer_shapes)
    vision_parameters = staticmethod(vision_parameters)
    gguf_config = staticmethod(text_config)

    def read_config(self, config: Mapping[str, Any]) -> Any:
        from transformers import Gemma3Config, Gemma3TextConfig  # seconds to import

        plain = {k: v for k, v in config.items() if k != "quantization_config"}
        kind = Gemma3TextConfig if config.get("model_type") == "gemma3_text" else Gemma3Config
        return kind.from_dict(plain)

    def alike(self, loaded: Any, geometry: Geometry) -> Iterator[tuple[str, Any, Any]]:
        text, layers = getattr(loaded, "text_config", loaded), range(1, geometry.layers + 1)
        kinds = ["sliding_attention" if layer % 6 else "full_attention" for layer in layers]
        g = geometry
        scalar = query_scalar(g.layers, g.hidden, g.query_heads, g.head_dim)
        yield "layer_types", list(text.layer_types), kinds
        yield "query_pre_attn_scalar", float(text.query_pre_attn_scalar), float(scalar)
        yield "hidden_activation", text.hidden_activation, "gelu_pytorch_tanh"
        yield "tie_word_embeddings", bool(text.tie_word_embeddings), True
        yield "rms_norm_eps", float(text.rms_norm_eps), 1e-6

    def embedding_factor(self, config: Mapping[str, Any]) -> float:
        from pipeline.model.families.gemma3 import layer  # torch: seconds to import

        return layer.embedding_factor(config)

    def layer_inputs(
        self,
        config: Mapping[str, Any],
        index: int,
        weights: Mapping[str, torch.Tensor],
        states: torch.Tensor,
        lengths: Sequence[int],
    ) -> Iterator[tuple[tuple[str, ...], torch.Tensor]]:
        from pipeline.model.families.gemma3 import layer

        return layer.layer_inputs(config, index, weights, states, lengths)

    def tensor_name(self, name: str) -> str | None:
        if name in _TOP_LEVEL:
            return _TOP_LEVEL[name]
        match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
        if match is None or match.group(2) not in _PER_LAYER:
            return None
        return f"model.layers.{match.group(1)}.{_PER_LAYER[match.group(2)]}.weight"
