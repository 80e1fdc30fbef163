"""Bytes of a checkpoint as vLLM holds it on the card. Pure arithmetic.

Quantized are the linear layers of the text model alone; embeddings (tied to the output head),
norms and the vision tower stay in bf16. Shapes: vLLM 0.32 ``model_executor/models/gemma3.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.model.catalogue import Precision
from pipeline.model.geometry import Geometry

_BF16 = 2
_BITS = {"bf16": 16, "int8": 8, "int4": 4}
GROUP_SIZE = 32  # weights that share a scale
_EMBEDDING_ROWS = 64  # vLLM pads the vocabulary to a multiple of this


@dataclass(frozen=True)
class Weights:
    """Bytes of the parts, scales included. ``vision_bytes``: the tower and its projector, 0 for a
    text model; loaded only where images are wanted."""

    precision: Precision
    linear_bytes: int
    embedding_bytes: int
    norm_bytes: int
    vision_bytes: int

    @property
    def text_bytes(self) -> int:
        """The text model."""
        return self.linear_bytes + self.embedding_bytes + self.norm_bytes

    def unpacked(self, geometry: Geometry) -> Weights:
        """The same with the linear layers in bf16, as a CPU may compute int4 ones."""
        return replace(self, linear_bytes=linear_parameters(geometry) * _BF16)

    def total(self, *, vision: bool = False) -> int:
        """Bytes that are loaded with or without the vision tower."""
        return self.text_bytes + (self.vision_bytes if vision else 0)

    def on_card(self, geometry: Geometry, cards: int, *, vision: bool = False) -> int:
        """Bytes on each of ``cards`` that share every layer: a part of the linear layers, of the
        rows of the embeddings and of the vision tower, and all norms. ``geometry``: the model's."""
        if cards == 1:
            return self.total(vision=vision)
        part = linear_parameters(geometry.on_one_of(cards))
        linear = self.linear_bytes * part // linear_parameters(geometry)
        divided = self.embedding_bytes + (self.vision_bytes if vision else 0)
        return linear + divided // cards + self.norm_bytes


def weight_bytes(
    geometry: Geometry, precision: Precision, *, vision: int = 0, group_size: int = GROUP_SIZE
) -> Weights:
    """The parts of a checkpoint in ``precision`` (bf16, int8, int4).

    ``vision``: parameters of the vision tower, 0 without. ``group_size``: weights that share one
    bf16 scale. Raises KeyError for another precision.
    """
    parameters = linear_parameters(geometry)
    scales = 0 if precision == "bf16" else parameters // group_size
    rows = -(-geometry.vocabulary // _EMBEDDING_ROWS) * _EMBEDDING_ROWS
    norms = geometry.layers * (4 * geometry.hidden + 2 * geometry.head_dim) + geometry.hidden
    return Weights(
        precision=precision,
        linear_bytes=parameters * _BITS[precision] // 8 + scales * _BF16,
        embedding_bytes=rows * geometry.hidden * _BF16,
        norm_bytes=norms * _BF16,
        vision_bytes=vision * _BF16,
    )


def linear_parameters(geometry: Geometry) -> int:
    """Weights in the text model's linear layers: the ones that are quantized, and multiplied
    once for every token."""
    query = geometry.query_heads * geometry.head_dim
    key_value = 2 * geometry.kv_heads * geometry.head_dim
    attention = geometry.hidden * (query + key_value) + query * geometry.hidden
    return geometry.layers * (attention + 3 * geometry.hidden * geometry.ffn)
