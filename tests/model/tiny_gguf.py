"""A Gemma 3 of a few kilobytes in a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, RopeScalingType, TokenType, quants


@dataclass(frozen=True)
class Shape:
    """Sizes of a model. ``factor``: of the global layers' RoPE."""

    hidden: int = 64
    ffn: int = 96
    heads: int = 2
    kv_heads: int = 1
    head_dim: int = 32
    vocabulary: int = 48
    layers: int = 6
    window: int = 512
    factor: float | None = None

    @property
    def modules(self) -> dict[str, tuple[int, ...]]:
        """Of one layer, (rows, columns)."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "attn_q": (queries, self.hidden),
            "attn_k": (keys, self.hidden),
            "attn_v": (keys, self.hidden),
            "attn_output": (self.hidden, queries),
            "ffn_gate": (self.ffn, self.hidden),
            "ffn_up": (self.ffn, self.hidden),
            "ffn_down": (self.hidden, self.ffn),
            "attn_norm": (self.hidden,),
            "post_attention_norm": (self.hidden,),
            "ffn_norm": (self.hidden,),
            "post_ffw_norm": (self.hidden,),
            "attn_q_norm": (self.head_dim,),
            "attn_k_norm": (self.head_dim,),
        }


TINY = Shape()
HIDDEN, FFN, HEADS, HEAD_DIM, VOCABULARY, LAYERS = 64, 96, 2, 32, 48, 6
CONTROL = ["<pad>", "<eos>", "<bos>", "<unk>"]
USER_DEFINED = ["\n", "\n\n", "  ", "   ", "<b>"]
BYTES = ["<0x00>", "<0x41>"]
WORDS = ["▁", "a", "b", "c", "ab", "bc", "abc", "▁a", "▁ab", "▁abc"]


def weights(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng([*shape, seed]).normal(0, 0.02, shape).astype(np.float32)


def vocabulary(size: int) -> list[tuple[str, int]]:
    """Pieces with SentencePiece's types."""
    pieces = [
        *((p, TokenType.UNKNOWN if p == "<unk>" else TokenType.CONTROL) for p in CONTROL),
        *((p, TokenType.USER_DEFINED) for p in USER_DEFINED),
        *((p, TokenType.BYTE) for p in BYTES),
        *((p, TokenType.NORMAL) for p in WORDS),
        ("<start_of_turn>", TokenType.CONTROL),
        ("<end_of_turn>", TokenType.CONTROL),
    ]
    rest = ((f"<unused{i}>", TokenType.CONTROL) for i in range(size - len(pieces)))
    return [(p, int(t)) for p, t in (*pieces, *rest)]


def write(
    path: Path,
    *,
    architecture: str = "gemma3",
    layers: int | None = None,
    chat_template: str | None = None,
    without: str = "",
    more: tuple[str, ...] = (),
    kinds: Mapping[str, GGMLQuantizationType] | None = None,
    shape: Shape = TINY,
    norm: float = 1.5,
    tokenizer: bool = True,
) -> Path:
    """Norms of 1 + w = 1.5, the rest small and random. ``kinds``: types by module, attn_q as
    Q4_0 and the others F32 if not told. ``without``: a field or tensor to leave out.
    """
    layers = shape.layers if layers is None else layers
    kinds = {"attn_q": GGMLQuantizationType.Q4_0} if kinds is None else kinds
    writer = GGUFWriter(path, architecture)
    for add, value in {
        "block_count": layers,
        "context_length": 2048,
        "embedding_length": shape.hidden,
        "feed_forward_length": shape.ffn,
        "head_count": shape.heads,
        "head_count_kv": shape.kv_heads,
        "key_length": shape.head_dim,
        "layer_norm_rms_eps": 1e-6,
        "sliding_window": shape.window,
        "rope_freq_base": 1e6,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "unk_token_id": 3,
    }.items():
        if add != without:
            getattr(writer, f"add_{add}")(value)
    if shape.factor is not None:
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(shape.factor)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    if tokenizer:
        pieces = vocabulary(shape.vocabulary)
        writer.add_tokenizer_model("llama")
        writer.add_token_list([p for p, _ in pieces])
        writer.add_token_types([t for _, t in pieces])
        writer.add_token_scores(
            [-1000.0 if t != 1 else -float(i) for i, (_, t) in enumerate(pieces)]
        )
        writer.add_add_space_prefix(False)

    def add_tensor(full: str, module: str, values: np.ndarray) -> None:
        kind = kinds.get(module)
        if full.startswith(without) and without:
            return
        if kind is None:
            writer.add_tensor(full, values)
        else:
            writer.add_tensor(full, quants.quantize(values, kind), raw_dtype=kind)

    add_tensor("token_embd.weight", "token_embd", weights((shape.vocabulary, shape.hidden)))
    add_tensor("output_norm.weight", "output_norm", np.full(shape.hidden, norm, np.float32))
    for layer in range(layers):
        for name, size in shape.modules.items():
            full = f"blk.{layer}.{name}.weight"
            is_norm = name.endswith("norm")
            values = np.full(size, norm, np.float32) if is_norm else weights(size, layer)
            add_tensor(full, name, values)
    for name in more:
        writer.add_tensor(name, np.zeros(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
