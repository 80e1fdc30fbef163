"""One layer of Gemma 3, computed only with the arithmetic of ``exact``, as float32.

After transformers' ``Gemma3DecoderLayer``; a test compares both. Texts follow each other without
padding: everything except attention treats each token separately.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Any

import torch

from pipeline.model.exact import exp, linear, product, sqrt, total

Weights = Mapping[str, torch.Tensor]

_QUERY, _KEY, _VALUE = "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"
_OUTPUT = "self_attn.o_proj"
_GATE, _UP, _DOWN = "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"
_TOKENS = 256  # in one elementwise computation: fits the second-level cache
_SINE_TERMS = 12  # of the Taylor series: enough for float64 up to an angle of 1


def embedding_factor(config: Mapping[str, Any]) -> float:
    """The factor of the token embeddings: Gemma rounds it to bfloat16."""
    return float(torch.tensor(math.sqrt(config["hidden_size"])).bfloat16())


def layer_inputs(
    config: Mapping[str, Any],
    index: int,
    weights: Weights,
    states: torch.Tensor,
    lengths: Sequence[int],
) -> Iterator[tuple[tuple[str, ...], torch.Tensor]]:
    """Compute layer ``index`` on ``states``, in place; see ``Family.layer_inputs``."""

    def normed(x: torch.Tensor, name: str) -> torch.Tensor:
        return _normed(x, weights[f"{name}.weight"], config["rms_norm_eps"])

    def through(x: torch.Tensor, name: str) -> torch.Tensor:
        return linear(x, weights[f"{name}.weight"])

    x = normed(states, "input_layernorm")
    yield (_QUERY, _KEY, _VALUE), x
    size = config["head_dim"]
    query, key, value = (through(x, name).view(len(x), -1, size) for name in (_QUERY, _KEY, _VALUE))
    turns = _turns(config, config["layer_types"][index], max(lengths))
    query, key = normed(query, "self_attn.q_norm"), normed(key, "self_attn.k_norm")
    scale = 1 / math.sqrt(config["query_pre_attn_scalar"])
    x = torch.empty(len(states), query.shape[1] * size)
    at = 0
    for length in lengths:
        one = slice(at, at + length)
        at += length
        near = tuple(part[:length] for part in turns)
        x[one] = _attention(_turned(query[one], *near), _turned(key[one], *near), value[one], scale)
    yield (_OUTPUT,), x
    states += normed(through(x, _OUTPUT), "post_attention_layernorm")

    x = normed(states, "pre_feedforward_layernorm")
    yield (_GATE, _UP), x
    gate, x = through(x, _GATE), through(x, _UP)
    for at in range(0, len(x), _TOKENS):
        x[at : at + _TOKENS].mul_(_gelu(gate[at : at + _TOKENS]))
    yield (_DOWN,), x
    states += normed(through(x, _DOWN), "post_feedforward_layernorm")


def _normed(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """RMSNorm over the last dimension."""
    mean = total(x * x, -1) / x.shape[-1]
    return x / sqrt(mean + epsilon) * (1.0 + weight)


def _gelu(x: torch.Tensor) -> torch.Tensor:
    """By tanh; x / (1 + e^-2u) is x (1 + tanh u) / 2."""
    inner = (x * x).mul_(0.044715).add_(1).mul_(x).mul_(-2 * math.sqrt(2 / math.pi))
    return x / exp(inner).add_(1)


def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
) -> torch.Tensor:
    """(tokens, heads * size) of one text; each token attends to itself and the tokens before it.
    Inputs: (tokens, heads, size); ``key`` and ``value`` have fewer heads, each of them for several
    of ``query``'s."""
    tokens, heads, size = query.shape
    serving = key.shape[1]
    query = query.transpose(0, 1).reshape(serving, -1, size)  # stack the heads of one key
    scores = (product(query, key.transpose(0, 1)).float() * scale).view(heads, tokens, tokens)
    later = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    largest = scores.masked_fill(later, -math.inf).amax(-1, keepdim=True)
    shares = exp(scores - largest).masked_fill_(later, 0)
    mixed = product(shares.view(serving, -1, tokens), value.permute(1, 2, 0)).float()
    mixed = mixed.view(heads, tokens, size) / total(shares, -1)
    return mixed.transpose(0, 1).flatten(1)


def _turned(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """RoPE: (tokens, heads, size), the two halves of each head rotated with each other."""
    first, second = x.chunk(2, -1)
    cosines, sines = cosines.unsqueeze(1), sines.unsqueeze(1)
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], -1)


def _turns(config: Mapping[str, Any], kind: str, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines by position: float32 (tokens, head size / 2)."""
    rope = config["rope_parameters"][kind]
    half = config["head_dim"] // 2
    with localcontext() as context:
        context.prec = 40
        theta, factor = Decimal(rope["rope_theta"]), Decimal(rope.get("factor", 1.0))
        angles = [theta ** (Decimal(-n) / half) / factor for n in range(half)]
    angle = torch.tensor([float(a) for a in angles], dtype=torch.float64)
    cosine, sine = _taylor(angle, 0), _taylor(angle, 1)
    cosines, sines = [torch.ones_like(angle)], [torch.zeros_like(angle)]
    for _ in range(tokens - 1):  # each one angle further
        c, s = cosines[-1], sines[-1]
        cosines.append(c * cosine - s * sine)
        sines.append(s * cosine + c * sine)
    return torch.stack(cosines).float(), torch.stack(sines).float()


def _taylor(angle: torch.Tensor, odd: int) -> torch.Tensor:
    """The cosine (``odd`` is 0) or sine (1) of angles up to 1."""
    square = angle * angle
    value = torch.zeros_like(angle)
    for n in range(2 * _SINE_TERMS + odd, -1, -2):
        value = value * square + (-1) ** (n // 2) / math.factorial(n)
    return value * angle if odd else value
