"""GPTQ: rounding that compensates, in the remaining columns, for the error just made.

After Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers" (2023). It minimises the error of the layer's output, |(W - Q) X|^2, not the error of
its weights. Columns are not reordered: groups stay where the kernels expect them.

The paper takes H = X^T X of the layer's inputs and the upper Cholesky factor U of H^-1; column j is
rounded and its error, divided by U[j, j], is spread over the columns after it along U[j]. Here the
same result comes from R = U^-1, upper triangular with R R^T = H, so only its blocks on the diagonal
are inverted: with the errors E = W - Q of the columns before a group G, the group's correction is
E R[:, G] R[G, G]^-1 (the group then compensates for as much of E R as it can).

The result has the same bytes on every processor: it uses only ``exact``'s arithmetic. Decisions (a
code, a scale) see the same numbers everywhere, however near to a half one is.

Why not a library: llmcompressor 0.12 to 0.14 pin compressed-tensors 0.17.1, 0.18 and 0.19 and
transformers up to 5.10, 5.14 and 5.17, but vLLM 0.32 pins compressed-tensors 0.17.0 and runs with
transformers 5.19: they cannot be installed together. And none gives the same bytes everywhere.
"""

from __future__ import annotations

import math

import torch

from pipeline.model.convert.quantize import CodedTensor, best_scale, round_to_codes
from pipeline.model.exact import RoundedMatrix, gridded, multiply, product, sqrt

# share of the mean diagonal that is added to it, as in the paper
DAMPING = 0.01
_BITS = 4
_SPAN = 8  # groups whose errors are multiplied separately from all earlier ones
_BLOCK = 32  # columns of the Cholesky factor, computed at once


def gptq(weights: torch.Tensor, hessian: torch.Tensor, group_size: int) -> CodedTensor:
    """Round ``weights`` (rows, columns) to int4 for inputs of second moment ``hessian``.

    ``hessian``: float64, (columns, columns), the sum over tokens of x x^T in any scale. Columns
    whose input is always zero keep plain rounding. Codes are symmetric, with one bfloat16 scale per
    ``group_size`` columns, searched with the inputs' second moments as weights.
    """
    rows, columns = weights.shape
    if columns % group_size:
        raise ValueError(f"{columns} columns are no multiple of the group size {group_size}")
    weights = weights.float()
    root = upper_root(hessian, _damped(hessian.diagonal()))
    inverses = _inverses(root, group_size)
    importance = hessian.diagonal().clamp_min(0).float() + 1e-12

    codes = torch.empty(rows, columns, dtype=torch.int8)
    scales = torch.empty(rows, columns // group_size, dtype=torch.bfloat16)
    errors = torch.zeros(rows, columns)
    span = _SPAN * group_size
    first, far = 0, torch.zeros(rows, span, dtype=torch.float64)  # correction for the span
    for start in range(0, columns, group_size):
        stop = start + group_size
        inverse = inverses[start // group_size]
        group = weights[:, start:stop].T.contiguous()  # makes each column contiguous
        if start == first + span:
            first = start
            far = product(errors[:, :first], root[:first, first : first + span].T)
        asked = far[:, start - first : stop - first]
        if start > first:
            asked = asked + product(errors[:, first:start], root[first:start, start:stop].T)
        if start:
            group.add_(product(inverse.T, asked).float())
        scale = best_scale(group, importance[start:stop], _BITS)
        scales[:, start // group_size] = scale.bfloat16()
        spread = (inverse / inverse.diagonal().unsqueeze(1)).float()
        chosen = torch.empty_like(group)
        for j in range(group_size):
            chosen[j] = round_to_codes(group[j], scale, _BITS)
            error = group[j] - chosen[j] * scale
            group[j + 1 :].sub_(error * spread[j, j + 1 :].unsqueeze(1))
        codes[:, start:stop] = chosen.T
        errors[:, start:stop] = weights[:, start:stop] - (chosen * scale).T
    return CodedTensor(codes, scales, _BITS)


def _damped(diagonal: torch.Tensor) -> torch.Tensor:
    damped = torch.where(diagonal > 0, diagonal, 1.0).double()
    return damped + DAMPING * math.fsum(damped.tolist()) / len(damped)


def upper_root(matrix: torch.Tensor, diagonal: torch.Tensor) -> torch.Tensor:
    """R, upper triangular with R R^T = ``matrix`` with another ``diagonal`` (float64, positive
    definite).

    Cholesky's algorithm from the last column to the first: the columns of a block are the rest of
    the matrix after all later columns were subtracted.
    """
    size = len(matrix)
    # from here on as usual: lower triangular, from the first to the last column. The factor
    # replaces the matrix in place
    left = matrix.double().flip(0, 1)
    left.diagonal().copy_(diagonal.flip(0))
    steps = torch.zeros_like(left)  # the factor, gridded for products
    # the norm of a factor's row is at most the root of the matrix's element on the diagonal
    largest = sqrt(left.diagonal()).unsqueeze(1)
    least = left.diagonal().amin() * 1e-6  # a smaller pivot is rounding error
    unit = torch.empty_like(largest)
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        block = left[start:, start:stop]
        if start:
            done = RoundedMatrix(steps[start:, :start], unit[start:])
            ahead = RoundedMatrix(steps[start:stop, :start], unit[start:stop])
            block = block - multiply(done, ahead)
        columns = block.T.contiguous()
        for j in range(stop - start):
            column = columns[j, j:]
            column[0].clamp_(least)
            column.div_(math.sqrt(column[0]))
            columns[j + 1 :, j:].sub_(column * columns[j, j + 1 : stop - start].unsqueeze(1))
        left[start:, start:stop] = columns.T
        new = gridded(columns.T, size, largest[start:])
        steps[start:, start:stop], unit[start:] = new.steps, new.unit
    del steps
    return left.tril_().flip(0, 1)


def _inverses(root: torch.Tensor, size: int) -> torch.Tensor:
    """Inverses of the diagonal blocks of ``root``: (blocks, size, size), upper triangular."""
    starts = range(0, len(root), size)
    blocks = torch.stack([root[at : at + size, at : at + size] for at in starts])
    inverses = torch.eye(size, dtype=torch.float64).repeat(len(blocks), 1, 1)
    # turns the columns of the identity into those of the inverse, from the last row up
    for j in range(size - 1, -1, -1):
        inverses[:, j] /= blocks[:, j, j].unsqueeze(1)
        inverses[:, :j] -= blocks[:, :j, j].unsqueeze(2) * inverses[:, j].unsqueeze(1)
    return inverses
