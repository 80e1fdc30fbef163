"""A request as admission sees it: how long its prompt is, and what it shares with others. How long
its answer will be is not known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demand:
    """All that a policy knows of a request. ``keys``: of the prompt's whole blocks (see
    ``block_keys``). ``group``: requests of similar length have the same."""

    id: int
    prompt_tokens: int
    max_new_tokens: int
    keys: Sequence[int] = ()
    group: int = 0


def group_of(template: int, prompt_tokens: int) -> int:
    """Requests whose completions are about equally long: of one template, and with prompts of about
    the same length (a power of two)."""
    return hash((template, prompt_tokens.bit_length()))


def block_keys(ids: Sequence[int], block_size: int) -> tuple[int, ...]:
    """A key for each whole KV block of ``ids`` (``block_size`` tokens each), which is what a prefix
    cache can share.

    Keys are chained, as vLLM chains its block hashes: two prompts have the same i-th key exactly
    when their first i + 1 blocks are equal (but for a chance of one in 2**61).
    """
    keys = []
    key = 0
    for end in range(block_size, len(ids) + 1, block_size):
        key = hash((key, *ids[end - block_size : end]))
        keys.append(key)
    return tuple(keys)
