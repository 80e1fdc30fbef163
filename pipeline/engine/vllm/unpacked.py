"""int4 layers computed in bf16 on a CPU: unpacked once, when the model has been loaded.

vLLM's int4 kernel for CPUs unpacks the codes in every step. Where the processor multiplies bf16
itself (AVX-512 BF16, AMX) the same weights in bf16 are up to three times as fast
(``tests/bench/results/cpu_compute.json``). A weight is its code times its group's scale, rounded
to bf16.

vLLM imports this module in the process that holds the model, wherever that is: the engine's
configuration names ``Unpacked`` as an extension of the worker.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from vllm.config import get_current_vllm_config_or_none
from vllm.model_executor.kernels.linear import (
    _POSSIBLE_KERNELS,
    MPLinearKernel,
    MPLinearLayerConfig,
)
from vllm.model_executor.layers.quantization.utils.quant_utils import (
    unpack_quantized_values_into_int32,
)
from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
from vllm.platforms import PlatformEnum
from vllm.scalar_type import scalar_types

import pipeline.engine.vllm.norm  # noqa: F401  # norms keep pace with such layers
from pipeline.engine.vllm.cpu_compute import UNPACKED

_CODES = scalar_types.uint4
_SYMMETRIC_ZERO = 8
_ROWS = 1024  # unpacked at once: a code takes 4 bytes on the way


class Unpacked:
    """For ``worker_extension_cls``."""


def unpacked(
    packed: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor | None = None
) -> torch.Tensor:
    """Weights (out, in) in the scales' dtype: (code - zero) × scale.

    ``packed``: codes 0..15, eight to an int32 along ``in``, (out, in / 8). ``scales``: (out,
    groups along in). ``zeros``: of the same shape, as integers; None: 8 everywhere.
    """
    outputs, groups = scales.shape
    made = torch.empty(outputs, packed.shape[1] * 8, dtype=scales.dtype)
    for start in range(0, outputs, _ROWS):
        part = slice(start, start + _ROWS)
        codes = unpack_quantized_values_into_int32(packed[part], _CODES, 1)
        codes = codes.unflatten(1, (groups, -1))
        codes -= _SYMMETRIC_ZERO if zeros is None else zeros[part].unsqueeze(-1)
        made[part] = (codes.to(scales.dtype) * scales[part].unsqueeze(-1)).flatten(1)
    return made


class UnpackedLinearKernel(MPLinearKernel):  # type: ignore[misc]  # vLLM's types are not read
    """A linear layer with int4 codes, as bf16."""

    @classmethod
    def get_min_capability(cls) -> int:
        return -1

    @classmethod
    def can_implement(cls, c: MPLinearLayerConfig) -> tuple[bool, str | None]:
        """Only for the engine that asks for it: another one may be loaded in this process."""
        config = get_current_vllm_config_or_none()
        if config is None or config.parallel_config.worker_extension_cls != UNPACKED:
            return False, "the engine computes from int4"
        if c.weight_type not in (scalar_types.uint4, scalar_types.uint4b8):
            return False, "only int4 is unpacked"
        return True, None

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        packed, scales, zeros = self._get_weight_params(layer)
        # checkpoints have (out, in) or (in, out); codes are packed along in, zeros along out
        codes = packed.data if packed.input_dim == 1 else packed.data.t()
        factors = scales.data if scales.output_dim == 0 else scales.data.t()
        points = None
        if self.config.zero_points and zeros is not None:
            across = zeros.data if zeros.output_dim == 0 else zeros.data.t()
            points = unpack_quantized_values_into_int32(across, _CODES, 0)
        layer.weight = torch.nn.Parameter(unpacked(codes, factors, points), requires_grad=False)
        del packed, scales, zeros, codes, factors
        for name in (self.w_q_name, self.w_s_name, self.w_zp_name):
            if name is not None and hasattr(layer, name):
                delattr(layer, name)  # the next layer's weights need the memory
        dispatch_cpu_unquantized_gemm(layer, remove_weight=True)

    def apply_weights(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        linear: Callable[..., torch.Tensor] = layer.cpu_linear  # type: ignore[assignment]
        return linear(x, layer.weight, bias)


_POSSIBLE_KERNELS[PlatformEnum.CPU].insert(0, UnpackedLinearKernel)
