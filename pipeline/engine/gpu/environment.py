"""Variables for engines on CUDA that keep vLLM away from CUDA's compiler, which no PC has that only
has a driver, and whose version, where it is there, is rarely that of the locked packages.

vLLM 0.32 would call it through FlashInfer (sampling, top-k over the vocabulary, autotuning from
sm_90 on, all-reduce) and DeepGEMM (sm_90, sm_100). ``has_flashinfer()`` says no where there is no
nvcc below ``CUDA_HOME`` (``utils/flashinfer.py``), and everything but the sampler asks it first.
Triton, Marlin, FlashAttention and Humming (NVRTC from the packages) need no toolkit.
"""

from __future__ import annotations

from collections.abc import Mapping

NO_TOOLKIT = "/nonexistent/cuda"

CUDA_ENVIRONMENT: Mapping[str, str] = {
    "CUDA_HOME": NO_TOOLKIT,
    "CUDA_PATH": NO_TOOLKIT,
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_HAS_FLASHINFER_CUBIN": "0",
    "VLLM_ALLREDUCE_USE_FLASHINFER": "0",
    "VLLM_BLOCKSCALE_FP8_GEMM_FLASHINFER": "0",
    "VLLM_USE_DEEP_GEMM": "0",
    "VLLM_MOE_USE_DEEP_GEMM": "0",
    "VLLM_DEEP_GEMM_WARMUP": "skip",
    # read under WSL2 alone: without pinned memory copies wait for the card, and it waits for them
    "VLLM_WSL2_ENABLE_PIN_MEMORY": "1",
}
