"""Types of llama.cpp whose integer codes a compressed-tensors checkpoint can hold unchanged.

Q4_0 and Q8_0 blocks are 32 weights along the input dimension, ``w = d * code``, ``d`` float16
(https://github.com/ggml-org/llama.cpp, ggml-common.h); "pack-quantized" with groups of 32 means the
same. So only ``d`` is rounded, to bfloat16, and the codes are moved bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Kind

from pipeline.model.convert.gguf_file import Bytes, Floats
from pipeline.model.convert.report import RoundingLoss
from pipeline.model.exact import total

Packer = Callable[[Bytes], Bytes]

GROUP_SIZE = 32
_LANE = np.uint64


def carries(kind: Kind, bits: int, group_size: int) -> bool:
    """Whether tensors of type ``kind`` keep their codes in a checkpoint with these settings."""
    return group_size == GROUP_SIZE and (kind, bits) in _PACKERS


def carry(block: Bytes, kind: Kind, bits: int) -> tuple[torch.Tensor, torch.Tensor, RoundingLoss]:
    """Stored rows (rows, bytes of a row) as packed codes, int32 (rows, columns * bits / 32), and
    scales, bfloat16 (rows, columns / 32); and the loss from rounding the scales: its squares are
    exact (from the sum of squared codes of each group), its largest difference an upper bound.
    """
    rows = len(block)
    # every block has an even number of bytes: copying pairs takes half the steps
    pairs = block.view(np.uint16).reshape(-1, GGML_QUANT_SIZES[kind][1] // 2)
    stored = np.ascontiguousarray(pairs[:, 1:]).view(np.uint8)
    exact = pairs[:, 0].copy().view(np.float16).astype(np.float32)
    scales = torch.from_numpy(exact).bfloat16()
    words = torch.from_numpy(_PACKERS[kind, bits](stored).view(np.int32).reshape(rows, -1))
    moved = exact - scales.float().numpy()
    squares = _squares(kind, stored)
    loss = RoundingLoss(
        squares=float(total(torch.from_numpy(squares * exact.astype(np.float64) ** 2), 0)),
        errors=float(total(torch.from_numpy(squares * moved.astype(np.float64) ** 2), 0)),
        largest=float(_LARGEST[kind] * np.abs(moved).max()),
    )
    return words, scales.view(rows, -1), loss


def _squares_of_four() -> Floats:
    """For every value of two bytes, the sum of its four codes' squares."""
    byte = np.arange(256)
    two = ((byte & 15) - 8) ** 2 + ((byte >> 4) - 8) ** 2
    return (two[:, None] + two[None, :]).astype(np.float32).ravel()


_Q4_0_SQUARES = _squares_of_four()
_ONES = np.ones(GROUP_SIZE, np.float32)


def _squares(kind: Kind, stored: Bytes) -> Floats:
    """The sum of the codes' squares of each block."""
    if kind == Kind.Q4_0:  # clip: no index is out of range, and numpy then skips a copy
        four = np.take(_Q4_0_SQUARES, stored.view(np.uint16), mode="clip")
        return four @ _ONES[: GROUP_SIZE // 4]
    return (_PACKERS[kind, 8](stored) ^ 0x80).view(np.int8).astype(np.float32) ** 2 @ _ONES


_LARGEST = {Kind.Q4_0: 8, Kind.Q5_0: 16, Kind.Q8_0: 128}


def _q4_0_in_4_bits(stored: Bytes) -> Bytes:
    """Low nibbles are elements 0-15, high nibbles 16-31; the result has neighbours side by side.

    Eight bytes at a time, as one integer: bytes a b c d ... become ab cd ... in two nibbles each.
    """
    lanes = stored.view(_LANE)  # (n, 2): elements 0-7|16-23, 8-15|24-31
    out = np.empty((len(lanes), 4), np.uint32)
    for half, nibbles in enumerate((lanes & 0x0F0F0F0F0F0F0F0F, lanes >> 4 & 0x0F0F0F0F0F0F0F0F)):
        pairs = (nibbles | nibbles >> 4) & 0x00FF00FF00FF00FF
        quads = (pairs | pairs >> 8) & 0x0000FFFF0000FFFF
        out[:, 2 * half : 2 * half + 2] = quads | quads >> 16  # keeps the low 32 bits
    return out.view(np.uint8)


def _q4_0_in_8_bits(stored: Bytes) -> Bytes:
    nibbles: Bytes = np.concatenate([stored & 0xF, stored >> 4], axis=1)
    return nibbles + np.uint8(128 - 8)


def _q5_0_in_8_bits(stored: Bytes) -> Bytes:
    """A little-endian word of fifth bits comes first, then nibbles as in Q4_0."""
    fifth = np.unpackbits(stored[:, :4], axis=1, bitorder="little")
    nibbles = np.concatenate([stored[:, 4:] & 0xF, stored[:, 4:] >> 4], axis=1)
    codes: Bytes = nibbles | fifth << 4
    return codes + np.uint8(128 - 16)


def _q8_0_in_8_bits(stored: Bytes) -> Bytes:
    return stored ^ np.uint8(0x80)  # two's complement + 128


_PACKERS: dict[tuple[Kind, int], Packer] = {
    (Kind.Q4_0, 4): _q4_0_in_4_bits,
    (Kind.Q4_0, 8): _q4_0_in_8_bits,
    (Kind.Q5_0, 8): _q5_0_in_8_bits,
    (Kind.Q8_0, 8): _q8_0_in_8_bits,
}
