"""Arithmetic that gives the same bits on every processor, number of threads and BLAS.

Conversion by GPTQ computes with only five kinds of operation:

- Single operations, element by element: + - * /, comparison, rounding, change of type. IEEE 754
  defines their results to the last bit. Each is a separate call, so no compiler can turn two
  roundings into one (a fused multiply-add).
- ``sqrt``, which IEEE 754 defines as well, by numpy: torch calls MKL, whose results differ in the
  last bit on processors without AVX.
- Matrix products (``product``, ``gram``): the operands are rounded to integers so small that every
  sum of products is an integer of at most 2^53. float64 holds all of those, so no addition rounds,
  whatever order a library uses, fused or not.
- Sums (``total``): halves are added element by element, in one order.
- Functions (``exp``): polynomials made of the single operations; a library's results differ in the
  last bit between its versions for the vector units of processors.

No value comes near the numbers (below 1e-38) that some processors treat as zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

_SIGNIFICAND = 53  # bits of float64
_BIAS, _FRACTION = 1023, 52  # how float64 stores an exponent
_LEAST = 1e-200  # smaller rows count as zeros
_ROWS, _COLUMNS = 2048, 512  # how much of a product is computed at once

_LOG2_E = 1.4426950408889634
# ln 2 in two parts: the first ends in zero bits, so small multiples are exact in float32
_LN_2_HIGH, _LN_2_LOW = 0.693145751953125, 1.4286068203094172e-06
_INVERSE_FACTORIALS = tuple(1 / math.factorial(n) for n in range(7, -1, -1))
_EXP_RANGE = 87.0  # beyond it float32 overflows, or loses bits


@dataclass(frozen=True)
class RoundedMatrix:
    """A matrix (..., rows, columns) as integers: ``steps`` (float64) times ``unit`` (float64,
    (..., rows, 1), powers of two)."""

    steps: torch.Tensor
    unit: torch.Tensor


def gridded(
    matrix: torch.Tensor, terms: int | None = None, largest: torch.Tensor | None = None
) -> RoundedMatrix:
    """``matrix`` rounded so that ``multiply`` of it is exact: each row to multiples of 2^-bits of
    the power of two above its largest magnitude, 21 bits for rows of 2,048.

    ``terms``: how many columns the whole has, of which it is a part. ``largest``: (rows, 1), the
    magnitudes that its rows will reach; values above the next power of two are clipped.
    """
    bits = _bits(terms or matrix.shape[-1])
    reached = matrix.abs().amax(-1, keepdim=True) if largest is None else largest
    exponent = _exponent(reached)
    steps = matrix.to(torch.float64, copy=True).mul_(power_of_two(bits - exponent)).round_()
    if largest is not None:
        steps.clamp_(-(1 << bits), 1 << bits)
    return RoundedMatrix(steps, power_of_two(exponent - bits))


def multiply(a: RoundedMatrix, b: RoundedMatrix) -> torch.Tensor:
    """``a @ b^T``, float64, exact for the values that both represent."""
    return (a.steps @ b.steps.transpose(-1, -2)).mul_(a.unit).mul_(b.unit.transpose(-1, -2))


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``a @ b^T``, float64, for a (..., m, k) and b (..., n, k)."""
    return multiply(gridded(a), gridded(b))


def linear(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """float32 (rows of ``x``, rows of ``weights``): ``x @ weights^T``."""
    out = torch.empty(len(x), len(weights))
    fixed = gridded(weights)
    for at in range(0, len(x), _ROWS):
        out[at : at + _ROWS] = multiply(gridded(x[at : at + _ROWS]), fixed)
    return out


def gram(x: torch.Tensor) -> torch.Tensor:
    """``x^T @ x``, float64 (columns, columns), for x (rows, columns)."""
    bits = _bits(len(x))
    exponent = _exponent(x.abs().amax(0))
    scale = power_of_two(bits - exponent)
    columns = x.shape[1]
    sums = torch.zeros(columns, columns, dtype=torch.float64)
    for start in range(0, len(x), _ROWS):
        steps = x[start : start + _ROWS].to(torch.float64, copy=True).mul_(scale).round_()
        for at in range(0, columns, _COLUMNS):  # the part right of the diagonal, and a little more
            stop = at + _COLUMNS
            sums[at:stop, at:].addmm_(steps[:, at:stop].T, steps[:, at:])
    sums = sums.triu_() + sums.triu(1).T
    unit = power_of_two(exponent - bits)
    return sums.mul_(unit).mul_(unit.unsqueeze(1))


def total(values: torch.Tensor, dim: int) -> torch.Tensor:
    """The sum over ``dim``, which is kept with size 1."""
    while (size := values.shape[dim]) > 1:
        if size % 2:
            last = values.narrow(dim, size - 1, 1)
            values = torch.cat([total(values.narrow(dim, 0, size - 1), dim), last], dim)
        else:
            values = torch.add(*values.chunk(2, dim))
    return values


def sqrt(values: torch.Tensor) -> torch.Tensor:
    """The square root of each."""
    return torch.from_numpy(np.sqrt(values.numpy()))


def exp(x: torch.Tensor) -> torch.Tensor:
    """e^x of float32 ``x``, assumed to be within -87 and 87; relative error at most 1e-7."""
    x = x.clamp(-_EXP_RANGE, _EXP_RANGE)
    twos = (x * _LOG2_E).round_()
    rest = x.sub_(twos * _LN_2_HIGH).sub_(twos * _LN_2_LOW)
    value = torch.full_like(rest, _INVERSE_FACTORIALS[0])
    for factor in _INVERSE_FACTORIALS[1:]:
        value.mul_(rest).add_(factor)
    # a float32's exponent begins at bit 23
    return value.mul_((twos.to(torch.int32) + 127).bitwise_left_shift_(23).view(torch.float32))


def power_of_two(exponent: torch.Tensor) -> torch.Tensor:
    """2^exponent, float64, for int64 within -1022 and 1023, built from its bits."""
    return ((exponent + _BIAS) << _FRACTION).view(torch.float64)


def _exponent(magnitude: torch.Tensor) -> torch.Tensor:
    """int64: the exponent of the least power of two above each."""
    stored = magnitude.double().clamp_min(_LEAST).view(torch.int64)
    return (stored >> _FRACTION) - (_BIAS - 1)


def _bits(terms: int) -> int:
    """Bits of integers, such that the sum of ``terms`` products stays within 2^53."""
    return (_SIGNIFICAND - max(terms - 1, 0).bit_length()) // 2
