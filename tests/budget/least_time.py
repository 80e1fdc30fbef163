"""The least time of an engine's steps by the roofline alone: no model of steps goes below."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.budget.cards.lookup import Card
from pipeline.budget.roofline import (
    attention_flops,
    exchange_seconds,
    kv_bytes_read,
    parameters_per_token,
)
from pipeline.budget.weights import linear_parameters
from pipeline.model.geometry import Geometry


def decode_step_seconds(
    geometry: Geometry,
    weights_bytes: int,
    card: Card,
    contexts: Sequence[int],
    *,
    dtype_bytes: int = 2,
    cards: int = 1,
) -> float:
    """Seconds for one step that gives each of ``len(contexts)`` requests a token.

    ``weights_bytes``: all that is loaded of the text model. ``contexts``: tokens of each request
    so far. ``cards`` that share each layer divide all of it, and wait for each other.
    """
    part = geometry.on_one_of(cards)
    read = weights_bytes / cards + sum(kv_bytes_read(part, t, dtype_bytes) for t in contexts)
    flops = sum(2 * parameters_per_token(geometry) + attention_flops(geometry, t) for t in contexts)
    batch = len(contexts)
    exchanged = exchange_seconds(geometry, batch, batch, cards)
    return max(read / card.bandwidth, flops / card.bf16_flops / cards) + exchanged


def prefill_seconds(
    geometry: Geometry,
    tokens: int,
    card: Card,
    *,
    weights_bytes: int = 0,
    context: int = 0,
    cards: int = 1,
) -> float:
    """Seconds to compute ``tokens`` of prompt behind ``context`` cached ones.

    Arithmetic alone, or reading ``weights_bytes`` once where that is longer (few tokens). The
    output head is computed for a prompt's last token only and not counted.
    """
    if tokens <= 0:
        return 0.0
    seen = context + (tokens + 1) / 2  # what a token of the prompt attends to, in the mean
    flops = tokens * (2 * linear_parameters(geometry) + attention_flops(geometry, seen))
    busy = max(flops / card.bf16_flops, weights_bytes / card.bandwidth) / cards
    return busy + exchange_seconds(geometry, tokens, 0, cards, steps=0)
