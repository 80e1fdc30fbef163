"""GPTQ: rounding that makes up, in the columns still to come, for the error it has just made.

After Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers" (2023), algorithm 1: with H = X^T X of the layer's inputs and U the upper Cholesky
factor of H^-1, column j is rounded and its error, divided by U[j, j], is spread over the columns
after it along U[j]. What is minimised is then the error of the layer's output, |(W - Q) X|^2,
not that of its weights. No reordering of columns: groups stay where the kernels expect them.

Why not a library: llmcompressor 0.12 to 0.14 pin compressed-tensors 0.17.1, 0.18 and 0.19 and
transformers up to 5.10, 5.14 and 5.17, where vLLM 0.32 pins compressed-tensors 0.17.0 and runs
with transformers 5.19: no installation holds both. The algorithm is the sixty lines below.
"""

from __future__ import annotations

import torch

from pipeline.model.convert.quantize import CodedTensor, best_scale, round_to_codes

# share of the mean diagonal that is added to it, as in the paper
DAMPING = 0.01
_BITS = 4


def gptq(weights: torch.Tensor, hessian: torch.Tensor, group_size: int) -> CodedTensor:
    """Round ``weights`` (rows, columns) to int4 for inputs of second moment ``hessian``.

    ``hessian``: float32, (columns, columns), the sum over tokens of x x^T in any scale. Columns
    whose input is always zero keep plain rounding. Symmetric codes, one bfloat16 scale per
    ``group_size`` columns, searched with the inputs' second moments as weights.
    """
    rows, columns = weights.shape
    if columns % group_size:
        raise ValueError(f"{columns} columns are no multiple of the group size {group_size}")
    left = weights.float().clone()
    factor = _inverse_factor(hessian)
    importance = hessian.diagonal().clamp_min(0).float() + 1e-12

    codes = torch.empty(rows, columns, dtype=torch.int8)
    scales = torch.empty(rows, columns // group_size, dtype=torch.bfloat16)
    for start in range(0, columns, group_size):
        stop = start + group_size
        group = left[:, start:stop]
        scale = best_scale(group, importance[start:stop], _BITS)
        scales[:, start // group_size] = scale.squeeze(-1).bfloat16()
        errors = torch.empty_like(group)
        local = factor[start:stop, start:stop]
        for j in range(group_size):
            code = round_to_codes(group[:, j : j + 1], scale, _BITS)
            codes[:, start + j] = code.squeeze(-1).to(torch.int8)
            error = (group[:, j : j + 1] - code * scale) / local[j, j]
            group[:, j + 1 :] -= error * local[j, j + 1 :]
            errors[:, j] = error.squeeze(-1)
        left[:, stop:] -= errors @ factor[start:stop, stop:]
    return CodedTensor(codes, scales, _BITS)


def _inverse_factor(hessian: torch.Tensor) -> torch.Tensor:
    """U, upper triangular, with U^T U = (H + damping)^-1; float32."""
    damped = hessian.double()
    dead = damped.diagonal() <= 0
    damped[dead, dead] = 1.0
    damped += torch.eye(len(damped), dtype=torch.float64) * (DAMPING * damped.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor: torch.Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor.float()
