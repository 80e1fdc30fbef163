"""Rounds a model layer by layer with GPTQ, in the memory of one layer.

The inputs of a layer, and of each module in it, are computed with the *rounded* weights before it,
so its rounding can compensate for theirs. Everything uses ``exact``'s arithmetic: the codes are the
same on every machine.

Memory: the layer's weights as float32, about 32 n^2 bytes for its widest input (n columns), and 4 n
for each token of the texts; 0.7 GB for 270M, about 20 GB for 27B. Without calibration texts a
conversion needs none of this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import UsageError
from pipeline.model.convert.gptq import gptq
from pipeline.model.convert.plan import PlannedTensor, TensorMethod
from pipeline.model.convert.quantize import CodedTensor
from pipeline.model.exact import gram
from pipeline.model.families.registry import family_of

_OWN_TEXTS = "calibration.txt"
# GPTQ on our own texts takes about a minute per 200 million weights on two cores
_MOST_WEIGHTS = 1_500_000_000
_MOST_TOKENS = 192  # of a text; less than the sliding window of every size
_MOST_TEXTS = 256


def calibration_texts(
    planned: Sequence[PlannedTensor], given: Sequence[str] | None
) -> tuple[str, ...]:
    """The texts for the conversion: none if nothing is rounded to 4 bits or the user gave an empty
    set; our own if the user did not say and the model is small.
    """
    rounded = [p for p in planned if p.how is TensorMethod.ROUND and p.bits == 4]
    if not rounded:
        return ()
    if given is not None:
        return tuple(text for text in given if text.strip())[:_MOST_TEXTS]
    weights = sum(p.tensor.shape[0] * p.tensor.shape[1] for p in planned if p.tensor.is_linear)
    return own_texts() if weights <= _MOST_WEIGHTS else ()


def own_texts() -> tuple[str, ...]:
    """Texts that Gemma 3 270M generated from ``<bos>`` only; a form feed separates them."""
    content = (resources.files("pipeline.model") / _OWN_TEXTS).read_text(encoding="utf-8")
    return tuple(text.strip() for text in content.split("\f"))


class LayerwiseRounding:
    """Rounds tensors in the order of the computation; each compensates for those before it.

    ``folder`` holds the tokenizer. Raises UsageError when the texts are too short to be of use.
    """

    def __init__(
        self,
        planned: Sequence[PlannedTensor],
        config: Mapping[str, Any],
        folder: Path,
        texts: Sequence[str],
    ) -> None:
        self._layers: dict[int, dict[str, PlannedTensor]] = {}
        for item in planned:
            if item.layer is not None:
                within = item.module.removeprefix(f"model.layers.{item.layer}.")
                self._layers.setdefault(item.layer, {})[within] = item
        ids = _tokens(folder, texts)
        if sum(map(len, ids)) < 256:
            raise UsageError(
                "the calibration texts have fewer than 256 tokens together",
                "give some hundred texts like those that the model will read, or none",
            )
        embedding = next(p for p in planned if "embed" in p.tensor.name)
        self._config = config
        self._family = family_of(config, "the model")
        self._lengths = [len(text) for text in ids]
        if self._lengths[-1] > config["sliding_window"]:  # within it all layers attend the same way
            raise ValueError("a calibration text is longer than the sliding window")
        embedded = _embedded(embedding, torch.tensor([i for text in ids for i in text]))
        self._states = embedded * self._family.embedding_factor(config)
        self._next = 0
        self._codes: dict[str, CodedTensor] = {}

    def codes(self, planned: PlannedTensor) -> CodedTensor | None:
        """The codes of a tensor that needs rounding; None for others."""
        if planned.how is not TensorMethod.ROUND or planned.layer is None:
            return None
        while self._next <= planned.layer:
            self._codes = self._round_layer(self._next)
            self._next += 1
        return self._codes.pop(planned.tensor.name)

    def _round_layer(self, index: int) -> dict[str, CodedTensor]:
        members = self._layers[index]
        # where a tensor's codes are kept, nearly the values that they will have
        weights = {
            f"{name}.weight": torch.from_numpy(p.tensor.float32()) for name, p in members.items()
        }
        codes: dict[str, CodedTensor] = {}
        walk = self._family.layer_inputs(self._config, index, weights, self._states, self._lengths)
        for modules, inputs in walk:
            rounded = [m for m in modules if members[m].how is TensorMethod.ROUND]
            if not rounded:
                continue
            stacked = torch.cat([weights[f"{m}.weight"] for m in rounded])
            whole = gptq(stacked, gram(inputs), members[rounded[0]].group_size)
            at = 0
            for module in rounded:
                rows = len(weights[f"{module}.weight"])
                part = whole.rows(at, at + rows)
                codes[members[module].tensor.name] = part
                weights[f"{module}.weight"] = part.dequantize()
                at += rows
        return codes


def _tokens(folder: Path, texts: Sequence[str]) -> list[list[int]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    encoded = tokenizer.encode_batch(list(texts))
    return sorted((e.ids[:_MOST_TOKENS] for e in encoded if len(e.ids) > 1), key=len)


def _embedded(embedding: PlannedTensor, ids: torch.Tensor) -> torch.Tensor:
    """float32 (tokens, hidden), as in the checkpoint, without the whole table in memory."""
    tensor = embedding.tensor
    states = torch.empty(len(ids), tensor.shape[1])
    at = 0
    for block in tensor.blocks():
        here = (ids >= at) & (ids < at + len(block))
        if here.any():
            values = torch.from_numpy(tensor.floats(block)).bfloat16().float()
            states[here] = values[ids[here] - at]
        at += len(block)
    return states
