"""The shape of a Gemma 3 text model, as far as memory and speed depend on it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError


@dataclass(frozen=True)
class Geometry:
    """Layer counts and sizes. ``sliding_window`` and ``context`` in tokens."""

    n_global: int
    n_sliding: int
    hidden: int
    ffn: int
    query_heads: int
    kv_heads: int
    head_dim: int
    sliding_window: int
    vocabulary: int
    context: int

    @property
    def layers(self) -> int:
        return self.n_global + self.n_sliding

    def kv_bytes_per_token_per_layer(self, dtype_bytes: int = 2) -> int:
        """Keys and values of one token in one layer, bytes."""
        return 2 * self.kv_heads * self.head_dim * dtype_bytes

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Geometry:
        """From a ``config.json``, text-only or with a vision tower. Raises KeyError."""
        text = config.get("text_config", config)
        layers = int(text["num_hidden_layers"])
        kinds = text.get("layer_types")
        if kinds is None:
            pattern = int(text.get("sliding_window_pattern", 6))
            n_global = layers // pattern
        else:
            n_global = sum(kind == "full_attention" for kind in kinds)
        return cls(
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


def read_geometry(folder: Path) -> Geometry:
    """The geometry of the checkpoint in ``folder``. Raises UsageError if it is no Gemma 3."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UsageError(f"model: {path} cannot be read: {e}") from None
    if not str(config.get("model_type", "")).startswith("gemma3"):
        found = config.get("model_type", "nothing")
        raise UsageError(f"model: {folder} holds a {found} model; rackmill runs Gemma 3")
    try:
        return Geometry.from_config(config)
    except (KeyError, TypeError, ValueError) as e:
        raise UsageError(f"model: {path} lacks {e}") from None
