"""How many KV-cache blocks a request holds under vLLM's KV-cache managers. Pure arithmetic.

Hybrid manager: vLLM puts a model's layers into groups of equal size (as many layers as there are
global ones, the last group padded) and gives every group blocks from one pool; a block holds
``block_size`` tokens of one group. With the hybrid manager off all layers are one group.
Formulas after vLLM 0.32 ``v1/core/kv_cache_utils.py`` (``_get_kv_cache_groups_uniform_page_size``,
``get_max_concurrency_for_kv_cache_config``) and ``v1/kv_cache_interface.py``
(``SlidingWindowSpec.max_admission_blocks_per_request``).
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.model.geometry import Geometry

# Batches that may be scheduled and not yet settled (vLLM's ``VllmConfig.max_concurrent_batches``):
# on CUDA the next one is scheduled while the card still works on the last, on a CPU never.
CUDA_BATCHES_IN_FLIGHT = 2


@dataclass(frozen=True)
class KvLayout:
    """One engine's pool geometry.

    ``block_size``: tokens. ``chunk``: tokens of prefill that may be in flight
    (``max_num_batched_tokens``, twice that on CUDA: see ``CUDA_BATCHES_IN_FLIGHT``).
    ``hybrid``: vLLM's hybrid KV-cache manager is on.
    """

    geometry: Geometry
    block_size: int
    chunk: int
    dtype_bytes: int = 2
    hybrid: bool = True

    @property
    def layers_per_group(self) -> int:
        fewer, more = sorted((self.geometry.n_global, self.geometry.n_sliding))
        if not fewer:
            return more
        if not self.hybrid:
            return self.geometry.layers
        return more if more < 1.5 * fewer else fewer  # vLLM: rather pad a little than a lot

    @property
    def full_groups(self) -> int:
        """Groups that keep every token."""
        if not self.hybrid and self.geometry.n_global:
            return 1
        return -(-self.geometry.n_global // self.layers_per_group)

    @property
    def sliding_groups(self) -> int:
        """Groups that keep a window of tokens, the last one padded."""
        if not self.hybrid and self.geometry.n_global:
            return 0
        return -(-self.geometry.n_sliding // self.layers_per_group)

    @property
    def block_bytes(self) -> int:
        """Bytes of one pool block."""
        per_token = self.geometry.kv_bytes_per_token_per_layer(self.dtype_bytes)
        return self.layers_per_group * self.block_size * per_token

    def num_gpu_blocks(self, pool_bytes: int) -> int:
        """Blocks in a pool of ``pool_bytes``, the null block included."""
        return pool_bytes // self.block_bytes

    def blocks(self, tokens: int) -> int:
        """Blocks that a decoding request of ``tokens`` holds in all groups."""
        whole = -(-tokens // self.block_size)
        window = -(-self.geometry.sliding_window // self.block_size) + 1
        return self.full_groups * whole + self.sliding_groups * min(whole, window)

    def held(self, slots: int, computed: int) -> int:
        """Blocks that a sequence holds, exactly: ``slots`` of its tokens have a place, and its
        window was last trimmed when ``computed`` tokens were processed.

        vLLM gives back a sliding group's blocks before it allocates, and only whole ones that
        the next token does not attend to (``SlidingWindowManager.get_num_skipped_tokens``).
        """
        whole = -(-slots // self.block_size)
        passed = max(0, computed - self.geometry.sliding_window + 1) // self.block_size
        return self.full_groups * whole + self.sliding_groups * (whole - min(passed, whole))

    def admission_cap(self, max_model_len: int) -> int:
        """Blocks of a sliding group beyond which vLLM's admission charges no request."""
        reach = min(self.geometry.sliding_window - 1 + self.chunk, max_model_len)
        return -(-reach // self.block_size) + 1

    def prefill_blocks(self, tokens: int) -> int:
        """The blocks that vLLM's admission charges for prefilling ``tokens`` in chunks.

        A sliding group is charged for the window and one chunk, and one block more because
        neither need begin on a block's edge.
        """
        whole = -(-tokens // self.block_size)
        return self.full_groups * whole + self.sliding_groups * self.admission_cap(tokens)

    def requests(self, num_gpu_blocks: int, tokens: int, shared: int = 0) -> int:
        """Requests of ``tokens`` that the pool holds at once, the last one still in prefill.

        ``shared``: tokens at their start that all of them have in common; whole blocks of those
        are held once.
        """
        usable = num_gpu_blocks - 1  # vLLM keeps the null block
        charge = self.prefill_blocks(tokens)
        if charge > usable:
            return 0
        prefix = shared // self.block_size * self.block_size
        own = self.blocks(tokens) - (self.blocks(prefix) if prefix < tokens else 0)
        return 1 + (usable - charge) // max(own, 1)
