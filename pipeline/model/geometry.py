"""The shape of a Gemma 3 text model, as far as memory and speed depend on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.model.json_file import read_json

_MOST = 1 << 32  # of anything: larger numbers are corrupt
_MOST_LAYERS = 1000


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

    def on_one_of(self, cards: int) -> Geometry:
        """What each of ``cards`` has that share every layer (tensor parallel): its part of the
        heads and of the feed-forward network. Where there are fewer key-value heads than cards,
        each keeps a whole one (vLLM 0.32 ``QKVParallelLinear``)."""
        return replace(
            self,
            query_heads=self.query_heads // cards,
            kv_heads=max(1, self.kv_heads // cards),
            ffn=self.ffn // cards,
        )

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
    config = read_json(path)
    if not str(config.get("model_type", "")).startswith("gemma3"):
        found = config.get("model_type", "nothing")
        raise UsageError(f"model: {folder} holds a {found} model; rackmill runs Gemma 3")
    try:
        geometry = Geometry.from_config(config)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as e:
        raise UsageError(f"model: {path} lacks {e}") from None
    for name, size in vars(geometry).items():
        least = 0 if name in ("n_global", "n_sliding") else 1
        if not least <= size <= _MOST or not 0 < geometry.layers <= _MOST_LAYERS:
            raise UsageError(f"model: {path} tells of a model that cannot be: {name} is {size}")
    return geometry
