"""Which of vLLM's attention backends an engine computes with, and what stands against one. Pure.

Left to itself vLLM 0.32 takes the first of FLASH_ATTN, FLASHINFER, TRITON_ATTN that knows the
configuration (``platforms/cuda.py``). FlashInfer compiles its kernels with a CUDA toolkit, which a
gaming PC lacks, so it is never left to itself: FlashAttention for a cache in bf16, Triton for all
that FlashAttention does not do on gaming cards (fp8, float32, images, whose tokens attend to each
other in both directions).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.budget.cards.lookup import Card

BACKEND = "attention_backend"  # the engine argument
FLASH, TRITON = "FLASH_ATTN", "TRITON_ATTN"
_HOPPER = (9, 0)  # FlashAttention 3, which has fp8
FP8_CACHE: Mapping[str, Any] = {"kv_cache_dtype": "fp8", BACKEND: TRITON}


def is_fp8(arguments: Mapping[str, Any]) -> bool:
    """Whether the KV cache is kept in fp8."""
    return str(arguments.get("kv_cache_dtype") or "auto").startswith("fp8")


def attention_backend_for(arguments: Mapping[str, Any]) -> tuple[str, str]:
    """The backend for an engine on a GPU with ``arguments``, and why, in words."""
    why = _needs_triton(arguments)
    if why:
        return TRITON, f"{why}: FlashAttention has no such kernel"
    return FLASH, "the fastest with a cache in bf16, and nothing to compile"


def wrong_backend(card: Card, arguments: Mapping[str, Any]) -> str:
    """Why ``card`` cannot compute with the backend in ``arguments``, and what to do; "" if
    nothing stands against it."""
    why = _needs_triton(arguments)
    if card.is_cpu or arguments.get(BACKEND) != FLASH or not why:
        return ""
    if is_fp8(arguments) and card.compute_capability[:1] == _HOPPER[:1]:
        return ""
    return (
        f"{FLASH} cannot do this on {card.title} ({why}): leave engine.{BACKEND} out, "
        f"or give {TRITON}"
    )


def _needs_triton(arguments: Mapping[str, Any]) -> str:
    if is_fp8(arguments):
        return "the KV cache is in fp8"
    if arguments.get("dtype") == "float32":
        return "the model computes in float32"
    if arguments.get("language_model_only") is False:
        return "prompts may hold images"
    return ""
