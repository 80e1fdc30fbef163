"""Symmetric integer codes, with one scale per group along the input dimension; how to find them.

A weight is ``scale * code`` with code in -8..7 (4 bits) or -128..127 (8 bits). llama.cpp's Q4_0 and
Q8_0 mean the same (``d * (q - 8)`` and ``d * q``, blocks of 32), so codes in files of those types
need no rounding: see ``repack.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.model.exact import total

# Fractions of the plain scale (largest magnitude / 8) that the search tries. Clipping the largest
# weight a little costs less squared error than a coarser grid for all others.
_CANDIDATES = tuple(1.1 - 0.025 * step for step in range(25))
# with 8 bits clipping gains nothing: only about the plain scale
_CANDIDATES_8 = (1.0, 0.99)


def lowest(bits: int) -> int:
    """The smallest code: -8 for 4 bits, -128 for 8."""
    return -(1 << (bits - 1))


@dataclass(frozen=True)
class CodedTensor:
    """``codes``: int8, (rows, columns). ``scales``: bfloat16, (rows, columns / group)."""

    codes: torch.Tensor
    scales: torch.Tensor
    bits: int = 4

    @property
    def group_size(self) -> int:
        return self.codes.shape[1] // self.scales.shape[1]

    def rows(self, start: int, stop: int) -> CodedTensor:
        """A part of the rows, in the same memory."""
        return CodedTensor(self.codes[start:stop], self.scales[start:stop], self.bits)

    def dequantize(self) -> torch.Tensor:
        """float32, (rows, columns)."""
        rows, columns = self.codes.shape
        groups = self.codes.float().view(rows, -1, self.group_size)
        return (groups * self.scales.float().unsqueeze(-1)).view(rows, columns)

    def packed(self) -> torch.Tensor:
        """int32, (rows, columns * bits / 32): codes minus the lowest code, the first in the lowest
        bits of a word, as in compressed-tensors' "pack-quantized".
        """
        rows, _ = self.codes.shape
        unsigned = (self.codes.to(torch.int16) - lowest(self.bits)).to(torch.uint8)
        if self.bits == 4:
            unsigned = unsigned[:, 0::2] | (unsigned[:, 1::2] << 4)
        return unsigned.contiguous().view(torch.int32).view(rows, -1)


def quantize(weights: torch.Tensor, group_size: int, bits: int = 4) -> CodedTensor:
    """Round float32 ``weights`` (rows, columns) to the codes of least squared error per group.

    Raises ValueError when the number of columns is no multiple of ``group_size``.
    """
    rows, columns = weights.shape
    if columns % group_size:
        raise ValueError(f"{columns} columns are no multiple of the group size {group_size}")
    groups = weights.float().reshape(-1, group_size).T.contiguous()
    scale = best_scale(groups, None, bits)
    codes = round_to_codes(groups, scale, bits).to(torch.int8).T.reshape(rows, columns)
    return CodedTensor(codes, scale.bfloat16().view(rows, -1), bits)


def best_scale(groups: torch.Tensor, importance: torch.Tensor | None, bits: int) -> torch.Tensor:
    """float32 (n), exact in bfloat16: for each column of ``groups`` (size, n) the scale of least
    squared error, weighted per element by ``importance`` (size) if it is given.

    For each group: try scales around largest magnitude / 2^(bits - 1), with the sign that puts the
    extreme weight on the lowest code (the grid has one more step there); round; refit the scale by
    least squares (``<w, q> / <q, q>``); keep the best. The same on every processor: see ``exact``.
    """
    largest, smallest = groups.amax(0), groups.amin(0)
    plain = torch.where(largest >= -smallest, largest, smallest) / lowest(bits)
    weights = torch.ones(len(groups)) if importance is None else importance
    weights = weights.unsqueeze(1)
    weighed = groups * weights
    least = 1 if importance is None else 1e-30
    best_error = torch.full_like(plain, torch.inf)
    best = torch.zeros_like(plain)
    for fraction in _CANDIDATES if bits == 4 else _CANDIDATES_8:
        codes = round_to_codes(groups, plain * fraction, bits)
        norm = total(codes * codes * weights, 0)
        scale = (total(weighed * codes, 0) / norm.clamp_min(least)).bfloat16().float()
        away = groups - scale * round_to_codes(groups, scale, bits)
        error = total(away * away * weights, 0)[0]
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best = torch.where(better, scale[0], best)
    return best


def round_to_codes(groups: torch.Tensor, scale: torch.Tensor, bits: int) -> torch.Tensor:
    """The nearest codes, as floats; scale 0 is replaced by 1."""
    safe = torch.where(scale == 0, 1.0, scale)
    return (groups / safe).round_().clamp_(lowest(bits), -lowest(bits) - 1)
