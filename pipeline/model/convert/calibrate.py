"""Calibration texts on their way through a model, one layer in memory at a time.

What GPTQ needs of a layer is the second moment of its inputs. The texts' hidden states wait
between two layers (``states``, bfloat16: 20 000 tokens of the 27B model are 215 MB), so that a
model of any size is calibrated in the memory of one layer. The inputs of a layer come out of
the layers before it as they were *after* their rounding, so its rounding can answer theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from pipeline.model.families.registry import family_of

# the linear modules of a layer by the input they share, in the order of the computation
SHARED_INPUTS = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
_BATCH = 8  # texts at once


class LayerWalk:
    """Carries the texts from the embeddings to the last layer.

    ``config``: as ``config.json`` has it. ``states``: (texts, tokens, hidden), the texts' token
    embeddings as stored, not yet multiplied by sqrt(hidden). ``lengths``: tokens of each text;
    what stands behind them is padding. No text may be longer than the sliding window: within it
    all layers attend alike.
    """

    def __init__(
        self, config: Mapping[str, Any], states: torch.Tensor, lengths: torch.Tensor
    ) -> None:
        self._parts = family_of(config, "the model").transformers()
        plain = {k: v for k, v in config.items() if k != "quantization_config"}
        self._config = self._parts.config(**plain)
        self._config._attn_implementation = "sdpa"
        if states.shape[1] > self._config.sliding_window:
            raise ValueError("a calibration text is longer than the sliding window")
        # Gemma rounds the factor to bfloat16
        self._states = states.bfloat16() * torch.tensor(self._config.hidden_size**0.5).bfloat16()
        self._real = torch.arange(states.shape[1]) < lengths.unsqueeze(1)
        self._rotary = self._parts.rotary(self._config)

    @torch.inference_mode()
    def inputs(
        self, index: int, weights: Mapping[str, torch.Tensor], modules: tuple[str, ...]
    ) -> dict[str, torch.Tensor]:
        """Second moments, float32 (columns, columns), of the inputs of ``modules`` in layer
        ``index``, whose ``weights`` are given by name within the layer. The texts stay before it.
        """
        layer, turns = self._layer(index, weights)
        seen: dict[str, torch.Tensor] = {}

        def watch(name: str) -> Any:
            def hook(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
                seen[name] = arguments[0]

            return hook

        for name in modules:
            layer.get_submodule(name).register_forward_pre_hook(watch(name))
        moments: dict[str, torch.Tensor] = {}
        for batch, real in self._batches():
            layer(batch, position_embeddings=turns, attention_mask=None)
            for name in modules:
                x = seen[name][real].float()
                moments[name] = moments[name].addmm_(x.T, x) if name in moments else x.T @ x
        return moments

    @torch.inference_mode()
    def advance(self, index: int, weights: Mapping[str, torch.Tensor]) -> None:
        """Take the texts through layer ``index`` as it has become."""
        layer, turns = self._layer(index, weights)
        for batch, _ in self._batches():
            # without a mask the attention is causal: padding comes last and is seen by nothing
            batch.copy_(layer(batch, position_embeddings=turns, attention_mask=None))

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for at in range(0, len(self._states), _BATCH):
            yield self._states[at : at + _BATCH], self._real[at : at + _BATCH]

    def _layer(self, index: int, weights: Mapping[str, torch.Tensor]) -> tuple[Any, Any]:
        """The layer, and the sines and cosines of its RoPE."""
        with torch.device("meta"):
            layer = self._parts.layer(self._config, index)
        layer.load_state_dict({k: v.bfloat16() for k, v in weights.items()}, assign=True)
        positions = torch.arange(self._states.shape[1]).unsqueeze(0)
        kind = self._config.layer_types[index]
        return layer.eval(), self._rotary(self._states[:1], positions, kind)
