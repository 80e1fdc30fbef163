"""Reading a Gemma 3 GGUF file: its architecture and its tensors under Hugging Face names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFValueType, ReaderTensor
from gguf.quants import dequantize

from pipeline.errors import UsageError

# GGUF block tensors -> Hugging Face modules. llama.cpp stores norms as 1 + w, Hugging Face as w.
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
# scale of the global layers' RoPE, by number of layers (transformers' Gemma 3 conversion table)
_GLOBAL_ROPE_FACTOR = {18: None, 26: None, 34: 8.0, 48: 8.0, 62: 8.0}
_END_OF_TURN = 106  # instruction-tuned models end their turn with it
# 27B alone scales queries by hidden_size / heads instead of head_dim
_QUERY_PRE_ATTN_SCALAR = {62: 168}


@dataclass(frozen=True)
class GgufTensor:
    """One tensor of the file. ``shape`` is (rows, columns) as Hugging Face has it."""

    name: str
    shape: tuple[int, ...]
    storage_type: str
    raw: ReaderTensor

    @property
    def is_norm(self) -> bool:
        return self.name.endswith("norm.weight")

    @property
    def is_linear(self) -> bool:
        return self.name.endswith("_proj.weight")

    def float32(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The weights as float32 of ``shape``; norms as w, not llama.cpp's 1 + w."""
        values: np.ndarray[Any, np.dtype[np.float32]] = dequantize(
            self.raw.data, self.raw.tensor_type
        ).reshape(self.shape)
        # F32 tensors come as the file's own read-only memory
        return values - 1.0 if self.is_norm else np.require(values, requirements="W")


class GgufFile:
    """A Gemma 3 model in a GGUF file, memory-mapped.

    Raises UsageError when the file is not GGUF, is cut off, or holds another architecture.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._reader = GGUFReader(path)
        except FileNotFoundError:
            raise UsageError(f"{path}: no such file") from None
        except Exception as e:  # the reader raises whatever its parsing runs into
            raise UsageError(f"{path} is not a readable GGUF file: {e}", "download it again") from e
        architecture = self._text("general.architecture")
        if architecture != "gemma3":
            raise UsageError(
                f"{path} holds a {architecture or 'nameless'} model; only gemma3 is supported"
            )

    def _value(self, key: str) -> Any:
        field = self._reader.get_field(key)
        if field is None:
            raise UsageError(f"{self.path} lacks the metadata field {key}")
        return field.contents()

    def _text(self, key: str) -> str:
        field = self._reader.get_field(key)
        return str(field.contents()) if field and field.types[-1] == GGUFValueType.STRING else ""

    @property
    def chat_template(self) -> str | None:
        """The Jinja chat template; None for a base model."""
        return self._text("tokenizer.chat_template") or None

    def tensors(self) -> Iterator[GgufTensor]:
        """Every tensor, in file order, under its Hugging Face name."""
        for raw in self._reader.tensors:
            yield GgufTensor(
                name=_hugging_face_name(raw.name),
                shape=tuple(int(n) for n in reversed(raw.shape)),
                storage_type=raw.tensor_type.name,
                raw=raw,
            )

    def config(self) -> dict[str, Any]:
        """The ``config.json`` of the text model, as transformers' Gemma3TextConfig has it."""

        def get(key: str) -> Any:
            return self._value(f"gemma3.{key}")

        layers = int(get("block_count"))
        head_dim = int(get("attention.key_length"))
        vocabulary = next(t for t in self.tensors() if t.name == "model.embed_tokens.weight")
        rope: dict[str, Any] = {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            "full_attention": {
                "rope_type": "default",
                "rope_theta": float(get("rope.freq_base")),
            },
        }
        factor = _GLOBAL_ROPE_FACTOR.get(layers)
        if factor:
            rope["full_attention"] |= {"rope_type": "linear", "factor": factor}
        eos = [int(self._value("tokenizer.ggml.eos_token_id"))]
        if self.chat_template:
            eos = list(dict.fromkeys([*eos, _END_OF_TURN]))
        return {
            "architectures": ["Gemma3ForCausalLM"],
            "model_type": "gemma3_text",
            "dtype": "bfloat16",
            "vocab_size": vocabulary.shape[0],
            "hidden_size": int(get("embedding_length")),
            "intermediate_size": int(get("feed_forward_length")),
            "num_hidden_layers": layers,
            "num_attention_heads": int(get("attention.head_count")),
            "num_key_value_heads": int(get("attention.head_count_kv")),
            "head_dim": head_dim,
            "query_pre_attn_scalar": _QUERY_PRE_ATTN_SCALAR.get(layers, head_dim),
            "hidden_activation": "gelu_pytorch_tanh",
            "max_position_embeddings": int(get("context_length")),
            "rms_norm_eps": 1e-6,
            "sliding_window": int(get("attention.sliding_window")),
            "layer_types": [
                "full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(layers)
            ],
            "rope_parameters": rope,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "use_cache": True,
            "tie_word_embeddings": True,
            "bos_token_id": int(self._value("tokenizer.ggml.bos_token_id")),
            "eos_token_id": eos if len(eos) > 1 else eos[0],
            "pad_token_id": int(self._value("tokenizer.ggml.padding_token_id")),
        }


def _hugging_face_name(name: str) -> str:
    if name in _TOP_LEVEL:
        return _TOP_LEVEL[name]
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if match is None or match.group(2) not in _PER_LAYER:
        raise UsageError(f"tensor {name!r} is not one of a Gemma 3 text model")
    return f"model.layers.{match.group(1)}.{_PER_LAYER[match.group(2)]}.weight"
