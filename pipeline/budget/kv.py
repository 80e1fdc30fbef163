"""How many KV-cache blocks a request holds under vLLM's hybrid manager. Pure arithmetic.

vLLM puts a model's layers into groups of equal size (as many layers as there are global ones)
and gives every group blocks from one pool; a block holds ``block_size`` tokens of one group.
Formulas after vLLM 0.32 ``v1/core/kv_cache_utils.py`` (``_get_kv_cache_groups_uniform_page_size``)
and ``v1/kv_cache_interface.py`` (``SlidingWindowSpec.max_admission_blocks_per_request``).
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.model.geometry import Geometry


@dataclass(frozen=True)
class KvLayout:
    """One engine's pool geometry. ``block_size`` and ``chunk`` (of prefill) in tokens."""

    geometry: Geometry
    block_size: int
    chunk: int
    dtype_bytes: int = 2

    @property
    def layers_per_group(self) -> int:
        return self.geometry.n_global or self.geometry.n_sliding

    @property
    def sliding_groups(self) -> int:
        """Groups of sliding-window layers, the last one padded."""
        return -(-self.geometry.n_sliding // self.layers_per_group)

    @property
    def block_bytes(self) -> int:
        """Bytes of one pool block."""
        per_token = self.geometry.kv_bytes_per_token_per_layer(self.dtype_bytes)
        return self.layers_per_group * self.block_size * per_token

    def num_blocks(self, pool_bytes: int) -> int:
        """Blocks in a pool of ``pool_bytes``, the null block included."""
        return pool_bytes // self.block_bytes

    def blocks(self, tokens: int) -> int:
        """Blocks that a decoding request of ``tokens`` holds in all groups."""
        whole = -(-tokens // self.block_size)
        window = -(-self.geometry.sliding_window // self.block_size) + 1
        return whole + self.sliding_groups * min(whole, window)

    def prefill_blocks(self, tokens: int) -> int:
        """The blocks that vLLM's admission charges for prefilling ``tokens`` in chunks.

        A sliding group is charged for the window and one chunk, and one block more because
        neither need begin on a block's edge.
        """
        whole = -(-tokens // self.block_size)
        reach = min(self.geometry.sliding_window - 1 + self.chunk, tokens)
        return whole + self.sliding_groups * (-(-reach // self.block_size) + 1)
