"""Decides what happens to each tensor of a GGUF file, from the file's header only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import torch

from pipeline.errors import UsageError
from pipeline.model.convert.gguf_file import GgufTensor
from pipeline.model.convert.repack import carries
from pipeline.model.convert.safetensors_writer import TensorSlot

Precision = Literal["int4", "int8", "bf16"]
SHARD_BYTES = 2_000_000_000  # of one output file, except for a single larger tensor
# vLLM computes these as one matrix, so they must have the same type
_FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
_ORDER = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class TensorMethod(StrEnum):
    """How a tensor is converted."""

    CARRY = "codes kept"
    ROUND = "rounded again"
    BF16 = "bf16"


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor and the slots it fills in the checkpoint. ``layer``: None outside the layers."""

    tensor: GgufTensor
    how: TensorMethod
    bits: int
    group_size: int

    @property
    def layer(self) -> int | None:
        match = re.match(r"model\.layers\.(\d+)\.", self.tensor.name)
        return int(match.group(1)) if match else None

    @property
    def module(self) -> str:
        """The name without ".weight", as in the list "ignore" of a quantization config."""
        return self.tensor.name.removesuffix(".weight")

    @property
    def slots(self) -> list[TensorSlot]:
        name, shape = self.tensor.name, self.tensor.shape
        if self.how is TensorMethod.BF16:
            return [TensorSlot(name, torch.bfloat16, shape)]
        rows, columns = shape
        return [
            TensorSlot(f"{name}_packed", torch.int32, (rows, columns * self.bits // 32)),
            TensorSlot(f"{name}_scale", torch.bfloat16, (rows, columns // self.group_size)),
            TensorSlot(f"{name}_shape", torch.int64, (2,)),
        ]

    @property
    def n_bytes(self) -> int:
        """Bytes in the checkpoint."""
        return sum(slot.n_bytes for slot in self.slots)


def plan_conversion(
    tensors: Iterable[GgufTensor], precision: Precision, group_size: int, keep_bf16: bool
) -> list[PlannedTensor]:
    """Every tensor that the checkpoint holds, in the order of the computation.

    An output head is left out: Gemma 3 ties it to the embeddings. With ``keep_bf16`` a linear
    layer whose codes cannot be kept stays bfloat16; so do the layers that vLLM fuses with it
    (q, k, v; gate, up), whatever their type. Raises UsageError if a number of columns is no
    multiple of the group size.
    """
    bits = {"int4": 4, "int8": 8, "bf16": 16}[precision]
    wanted = [t for t in tensors if t.name != "lm_head.weight"]
    kept = {
        t.name
        for t in wanted
        if t.is_linear
        and (bits == 16 or (keep_bf16 and not carries(t.span.kind, bits, group_size)))
    }
    kept |= {other for name in kept for other in _fused_with(name)}
    planned = []
    for tensor in wanted:
        how = TensorMethod.BF16
        if tensor.is_linear and tensor.name not in kept:
            if group_size <= 0 or tensor.shape[-1] % group_size or group_size % 8:
                raise UsageError(
                    f"{tensor.path}: the {tensor.shape[-1]} columns of {tensor.name} cannot be "
                    f"split into groups of {group_size}",
                    "take a group size of 32 (the one that Q4_0 and Q8_0 files have), 64 or 128",
                )
            how = (
                TensorMethod.CARRY
                if carries(tensor.span.kind, bits, group_size)
                else TensorMethod.ROUND
            )
        planned.append(PlannedTensor(tensor, how, bits, group_size))
    return sorted(planned, key=_place)


def _fused_with(name: str) -> list[str]:
    parent, _, module = name.removesuffix(".weight").rpartition(".")
    return [f"{parent}.{m}.weight" for group in _FUSED if module in group for m in group]


def _place(planned: PlannedTensor) -> tuple[int, int, int, str]:
    name = planned.tensor.name
    if planned.layer is None:
        return (0 if "embed" in name else 2), 0, 0, name
    module = planned.module.rpartition(".")[2]
    return 1, planned.layer, _ORDER.index(module) if module in _ORDER else len(_ORDER), name


def into_shards(planned: Sequence[PlannedTensor]) -> list[tuple[str, list[PlannedTensor]]]:
    """File names and the tensors in each: only ``model.safetensors``, or numbered parts."""
    parts: list[list[PlannedTensor]] = [[]]
    filled = 0
    for item in planned:
        if parts[-1] and filled + item.n_bytes > SHARD_BYTES:
            parts.append([])
            filled = 0
        parts[-1].append(item)
        filled += item.n_bytes
    if len(parts) == 1:
        return [("model.safetensors", parts[0])]
    count = len(parts)
    return [(f"model-{i:05}-of-{count:05}.safetensors", p) for i, p in enumerate(parts, 1)]
