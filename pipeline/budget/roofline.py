"""The least time that a card can need: bytes over bandwidth, or operations over arithmetic.

The roofline model (Williams, Waterman, Patterson 2009) of one step of an engine: every weight is
read once for the whole batch, every request's keys and values once, and each weight is multiplied
and added once for each token. Real engines take a multiple of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.budget.cards import Card
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
    so far. ``cards`` that share each layer divide all of it.
    """
    read = weights_bytes + sum(kv_bytes_read(geometry, t, dtype_bytes) for t in contexts)
    flops = sum(2 * parameters_per_token(geometry) + attention_flops(geometry, t) for t in contexts)
    return max(read / card.bandwidth, flops / card.bf16_flops) / cards


def decode_tokens_per_second(
    geometry: Geometry,
    weights_bytes: int,
    card: Card,
    *,
    batch: int,
    context: int,
    dtype_bytes: int = 2,
    cards: int = 1,
) -> float:
    """Tokens/s of ``batch`` requests of ``context`` tokens at once; 0 for no request."""
    if batch < 1:
        return 0.0
    # all alike: a sum over one, times the batch
    read = weights_bytes + batch * kv_bytes_read(geometry, context, dtype_bytes)
    flops = batch * (2 * parameters_per_token(geometry) + attention_flops(geometry, context))
    return batch / (max(read / card.bandwidth, flops / card.bf16_flops) / cards)


def prefill_seconds(
    geometry: Geometry, tokens: int, card: Card, *, weights_bytes: int = 0, context: int = 0
) -> float:
    """Seconds to compute ``tokens`` of prompt behind ``context`` cached ones.

    Arithmetic alone, or reading ``weights_bytes`` once where that is longer (few tokens). The
    output head is computed for a prompt's last token only and not counted.
    """
    if tokens <= 0:
        return 0.0
    seen = context + (tokens + 1) / 2  # what a token of the prompt attends to, in the mean
    flops = tokens * (2 * linear_parameters(geometry) + attention_flops(geometry, seen))
    return max(flops / card.bf16_flops, weights_bytes / card.bandwidth)


def kv_bytes_read(geometry: Geometry, tokens: int, dtype_bytes: int = 2) -> int:
    """Bytes of keys and values that one more token attends to: all in global layers, the window
    in sliding ones."""
    window = min(tokens, geometry.sliding_window)
    per_layer = geometry.kv_bytes_per_token_per_layer(dtype_bytes)
    return per_layer * (geometry.n_global * tokens + geometry.n_sliding * window)


def parameters_per_token(geometry: Geometry) -> int:
    """Weights multiplied for one generated token: linear layers and output head."""
    return linear_parameters(geometry) + geometry.vocabulary * geometry.hidden


def attention_flops(geometry: Geometry, tokens: float) -> float:
    """Operations of one token's attention to ``tokens``: scores and the weighted sum."""
    window = min(tokens, geometry.sliding_window)
    width = geometry.query_heads * geometry.head_dim
    return 4 * width * (geometry.n_global * tokens + geometry.n_sliding * window)


def knee(geometry: Geometry, weights_bytes: int, card: Card) -> int:
    """The batch at which arithmetic takes as long as reading the weights: requests beyond it do
    not come for free."""
    per_request = 2 * parameters_per_token(geometry) / card.bf16_flops
    return max(1, round(weights_bytes / card.bandwidth / per_request))
