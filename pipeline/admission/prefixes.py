"""Equal beginnings of prompts, in whole KV blocks: what a prefix cache can share."""

from __future__ import annotations

from collections.abc import Sequence


def block_keys(ids: Sequence[int], block_size: int) -> tuple[int, ...]:
    """A key for each whole block of ``ids`` (``block_size`` tokens each).

    Keys are chained, as vLLM chains its block hashes: two prompts have the same i-th key exactly
    when their first i + 1 blocks are equal (but for a chance of one in 2**61).
    """
    keys = []
    key = 0
    for end in range(block_size, len(ids) + 1, block_size):
        key = hash((key, *ids[end - block_size : end]))
        keys.append(key)
    return tuple(keys)
