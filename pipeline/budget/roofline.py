"""The least time that a card can need: bytes over bandwidth, or operations over arithmetic.

The roofline model (Williams, Waterman, Patterson 2009) of one step of an engine: every weight is
read once for the whole batch, every request's keys and values once, and each weight is multiplied
and added once for each token. Real engines take a multiple of it.
"""

from __future__ import annotations

from pipeline.budget.cards.lookup import Card
from pipeline.budget.weights import linear_parameters
from pipeline.model.geometry import Geometry

# Cards without NVLink exchange what they computed through the machine's memory, there and back: of
# the 16 GB/s that 8 lanes of PCIe 4.0 carry each way half is taken to arrive. The least that any
# exchange takes: two RTX 4090 without P2P need 12 µs for a few bytes (tinygrad's
# open-gpu-kernel-modules #17), plus a kernel of its own. Not measured by us yet.
_LINK_BANDWIDTH = 8e9
_LINK_SECONDS = 15e-6


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
    part = geometry.on_one_of(cards)
    read = weights_bytes / cards + batch * kv_bytes_read(part, context, dtype_bytes)
    flops = batch * (2 * parameters_per_token(geometry) + attention_flops(geometry, context))
    seconds = max(read / card.bandwidth, flops / card.bf16_flops / cards)
    return batch / (seconds + exchange_seconds(geometry, batch, batch, cards))


def exchange_seconds(
    geometry: Geometry, tokens: float, samples: float, cards: int, *, steps: float = 1
) -> float:
    """Seconds that ``cards`` which share each layer need to tell each other what they computed, in
    ``steps`` with so many ``tokens``, of which ``samples`` give a token out.

    Each layer's attention and feed-forward network end with a sum over the cards (all-reduce), and
    so does the embedding; of the logits each card has a part. A ring moves 2 (n-1)/n of what is
    summed up and (n-1)/n of what is gathered (Patarasuk and Yuan 2009).
    """
    if cards == 1:
        return 0.0
    sums = 2 * geometry.layers + 1
    summed = 2 * sums * tokens * geometry.hidden
    gathered = samples * geometry.vocabulary
    bytes_ = (summed + gathered) * 2 * (cards - 1) / cards  # bf16
    return bytes_ / _LINK_BANDWIDTH + steps * sums * _LINK_SECONDS


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
