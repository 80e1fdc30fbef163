"""A Gemma 3 of a few kilobytes in a GGUF file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quants

HIDDEN, FFN, HEADS, HEAD_DIM, VOCABULARY, LAYERS = 64, 96, 2, 32, 48, 6
SHAPES = {
    "attn_q": (HEADS * HEAD_DIM, HIDDEN),
    "attn_k": (HEAD_DIM, HIDDEN),
    "attn_v": (HEAD_DIM, HIDDEN),
    "attn_output": (HIDDEN, HEADS * HEAD_DIM),
    "ffn_gate": (FFN, HIDDEN),
    "ffn_up": (FFN, HIDDEN),
    "ffn_down": (HIDDEN, FFN),
    "attn_norm": (HIDDEN,),
    "post_attention_norm": (HIDDEN,),
    "ffn_norm": (HIDDEN,),
    "post_ffw_norm": (HIDDEN,),
    "attn_q_norm": (HEAD_DIM,),
    "attn_k_norm": (HEAD_DIM,),
}


def weights(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(0, 0.02, shape).astype(np.float32)


def write(
    path: Path,
    *,
    architecture: str = "gemma3",
    layers: int = LAYERS,
    chat_template: str | None = None,
    without: str = "",
    more: tuple[str, ...] = (),
) -> Path:
    """Norms of 1 + w = 1.5, the rest small; attn_q as Q4_0."""
    writer = GGUFWriter(path, architecture)
    for add, value in {
        "block_count": layers,
        "context_length": 2048,
        "embedding_length": HIDDEN,
        "feed_forward_length": FFN,
        "head_count": HEADS,
        "head_count_kv": 1,
        "key_length": HEAD_DIM,
        "sliding_window": 512,
        "rope_freq_base": 1e6,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }.items():
        if add != without:
            getattr(writer, f"add_{add}")(value)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    writer.add_tensor("token_embd.weight", weights((VOCABULARY, HIDDEN)))
    writer.add_tensor("output_norm.weight", np.full(HIDDEN, 1.5, np.float32))
    for layer in range(layers):
        for name, shape in SHAPES.items():
            full = f"blk.{layer}.{name}.weight"
            if name.endswith("norm"):
                writer.add_tensor(full, np.full(shape, 1.5, np.float32))
            elif name == "attn_q":
                kind = GGMLQuantizationType.Q4_0
                writer.add_tensor(full, quants.quantize(weights(shape), kind), raw_dtype=kind)
            else:
                writer.add_tensor(full, weights(shape))
    for name in more:
        writer.add_tensor(name, np.zeros(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
