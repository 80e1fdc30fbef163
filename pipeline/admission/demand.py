"""A request as admission sees it. How long its answer will be is not known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demand:
    """All that a policy knows of a request. ``keys``: of the prompt's whole blocks (see
    ``block_keys``). ``group``: requests whose lengths are alike."""

    id: int
    prompt_tokens: int
    max_new_tokens: int
    keys: Sequence[int] = ()
    group: int = 0


def group_of(template: int, prompt_tokens: int) -> int:
    """Requests whose completions are about equally long: of one template, and with prompts of
    about the same length (a power of two)."""
    return hash((template, prompt_tokens.bit_length()))
