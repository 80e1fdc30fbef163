"""Moves one tensor from the GGUF file to its slots, by blocks of rows, and counts what it loses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite

import numpy as np
import torch

from pipeline.errors import UsageError
from pipeline.model.convert.plan import PlannedTensor, TensorMethod
from pipeline.model.convert.quantize import CodedTensor, quantize
from pipeline.model.convert.repack import carry
from pipeline.model.convert.report import RoundingLoss
from pipeline.model.exact import total


@dataclass(frozen=True)
class RowBlock:
    """Values for slots, from ``n_bytes`` bytes of the source."""

    slots: dict[str, torch.Tensor]
    loss: RoundingLoss
    n_bytes: int


def transfer(planned: PlannedTensor, codes: CodedTensor | None = None) -> Iterator[RowBlock]:
    """The rows of a tensor in their order. ``codes``: of the whole tensor, if it was rounded
    already. Raises UsageError for values that are not finite.
    """
    tensor = planned.tensor
    name = tensor.name
    at = 0
    for block in tensor.blocks():
        with np.errstate(all="ignore"):  # non-finite values are found below
            if planned.how is TensorMethod.CARRY:
                words, scales, loss = carry(block, tensor.span.kind, planned.bits)
                slots = {f"{name}_packed": words, f"{name}_scale": scales}
            else:
                weights = torch.from_numpy(np.require(tensor.floats(block), requirements="W"))
                if planned.how is TensorMethod.BF16:
                    slots = {name: weights.bfloat16()}
                    loss = _loss(weights, slots[name].float())
                else:
                    coded = codes and codes.rows(at, at + len(block))
                    coded = coded or quantize(weights, planned.group_size, planned.bits)
                    slots = {f"{name}_packed": coded.packed(), f"{name}_scale": coded.scales}
                    loss = _loss(weights, coded.dequantize())
        if not isfinite(loss.squares + loss.errors):
            raise UsageError(
                f"{tensor.path}: tensor {tensor.span.name} holds values that are not finite",
                "the file is corrupt: download it again",
            )
        if planned.how is not TensorMethod.BF16 and at == 0:
            slots[f"{name}_shape"] = torch.tensor(tensor.shape, dtype=torch.int64)
        at += len(block)
        yield RowBlock(slots, loss, block.nbytes)


def _loss(weights: torch.Tensor, kept: torch.Tensor) -> RoundingLoss:
    difference = (weights - kept).flatten()
    flat = weights.flatten()
    return RoundingLoss(
        squares=float(total(flat * flat, 0)),
        errors=float(total(difference * difference, 0)),
        largest=float(difference.abs().max()),
    )
