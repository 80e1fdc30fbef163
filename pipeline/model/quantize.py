"""int4, symmetric, one scale per group along the input dimension, as compressed-tensors packs it.

A weight is ``scale * code`` with code in -8..7. This is also what llama.cpp's Q4_0 says
(``d * (q - 8)``, blocks of 32), so files of that type need no rounding of their codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

BITS = 4
_LOWEST, _HIGHEST = -8, 7
# Fractions of the plain scale (largest magnitude / 8) that the search tries. Clipping the
# largest weight a little costs less squared error than a coarse grid for all others.
_CANDIDATES = tuple(1.1 - 0.025 * step for step in range(25))


@dataclass(frozen=True)
class Int4Tensor:
    """``codes``: int8, (rows, columns), -8..7. ``scales``: bfloat16, (rows, columns / group)."""

    codes: torch.Tensor
    scales: torch.Tensor

    @property
    def group_size(self) -> int:
        return self.codes.shape[1] // self.scales.shape[1]

    def dequantize(self) -> torch.Tensor:
        """float32, (rows, columns)."""
        rows, columns = self.codes.shape
        groups = self.codes.float().view(rows, -1, self.group_size)
        return (groups * self.scales.float().unsqueeze(-1)).view(rows, columns)

    def packed(self) -> torch.Tensor:
        """int32, (rows, columns / 8): eight codes + 8 per word, the first in the lowest bits."""
        rows, columns = self.codes.shape
        nibbles = (self.codes.to(torch.int64) - _LOWEST).view(rows, columns // 8, 8)
        shifts = torch.arange(0, 32, BITS)
        words = (nibbles << shifts).sum(-1)
        signed: torch.Tensor = words - ((words >> 31) << 32)  # two's complement
        return signed.to(torch.int32)


def quantize(weights: torch.Tensor, group_size: int) -> Int4Tensor:
    """Round float32 ``weights`` (rows, columns) to the codes of least squared error per group.

    For each group: try scales around largest magnitude / 8, the sign such that the extreme
    weight lands on -8 (the grid has one more step there); round; refit the scale by least
    squares (``<w, q> / <q, q>``); keep the best as bfloat16.

    Raises ValueError when the columns are no multiple of ``group_size``.
    """
    rows, columns = weights.shape
    if columns % group_size:
        raise ValueError(f"{columns} columns are no multiple of the group size {group_size}")
    groups = weights.float().view(rows, -1, group_size)
    extreme = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    plain = extreme / _LOWEST

    best_error = torch.full_like(plain, torch.inf)
    best_scale = torch.zeros_like(plain)
    for fraction in _CANDIDATES:
        codes = _round(groups, plain * fraction)
        fitted = (groups * codes).sum(-1, keepdim=True) / codes.square().sum(
            -1, keepdim=True
        ).clamp_min(1)
        scale = fitted.bfloat16().float()
        codes = _round(groups, scale)
        error = (groups - scale * codes).square().sum(-1, keepdim=True)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_scale = torch.where(better, scale, best_scale)

    codes = _round(groups, best_scale).to(torch.int8).view(rows, columns)
    return Int4Tensor(codes, best_scale.squeeze(-1).bfloat16())


def _round(groups: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    safe = torch.where(scale == 0, torch.ones_like(scale), scale)
    return (groups / safe).round().clamp(_LOWEST, _HIGHEST)
