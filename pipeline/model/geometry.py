"""The sizes of a text model that memory and speed depend on: of layers that attend to all tokens
(global), and of layers that attend to a window (sliding)."""

from __future__ import annotations

from dataclasses import dataclass, replace


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
        """The part on each of ``cards`` that share every layer (tensor parallel): its heads and
        its part of the feed-forward network. With fewer key-value heads than cards, each card
        keeps a whole head (vLLM 0.32 ``QKVParallelLinear``)."""
        return replace(
            self,
            query_heads=self.query_heads // cards,
            kv_heads=max(1, self.kv_heads // cards),
            ffn=self.ffn // cards,
        )
