"""Whether a CPU computes int4 layers from their codes or unpacked to bf16. Pure.

The known rates of the linear layers of Gemma 3 270M and 4B, int4 against bf16, two cores
(``tests/bench/results/cpu_compute.json``), by what the processor multiplies bf16 with:

- AMX: bf16 is 1.2 to 3 times as fast in batches of up to 256 tokens, 0.9 to 1.0 in larger ones;
- AVX-512 BF16: 1.1 to 3.9 times as fast;
- neither: bf16 has half of int4's rate from four tokens on.

So bf16 it is where the processor has instructions for it and the memory is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pipeline.budget.cards.lookup import Card
from pipeline.budget.memory_split import Setup, memory_split
from pipeline.budget.weights import Weights
from pipeline.model.geometry import Geometry

_SPARED = 0.1  # of the memory that is free, for others


def choose_compute(
    geometry: Geometry, weights: Weights, card: Card, setup: Setup, given: Mapping[str, Any]
) -> tuple[str, str] | None:
    """ "int4" or "bf16", and why, for an engine with ``setup`` on the processor ``card``; None
    where there is nothing to choose: the weights are not int4.

    ``given``: what the job says; its ``cpu_compute``, if it is not auto, is taken as it is.
    """
    if weights.precision != "int4":
        return None
    wanted = given.get("cpu_compute") or "auto"
    if wanted != "auto":
        return wanted, ""
    if setup.kv_dtype == "fp32":
        return "int4", "the model computes in float32"
    if not card.native_bf16:
        return "int4", "this processor has no instructions for bf16 (AVX-512 BF16 or AMX)"
    there = memory_split(geometry, weights, card, replace(setup, unpacked=True))
    # an engine's parts share the machine's memory
    needed = setup.cards * (there.weights_bytes + there.overhead.total + there.kv_bytes)
    more = weights.unpacked(geometry).linear_bytes - weights.linear_bytes
    if needed > card.vram_bytes * (1 - _SPARED):
        return "int4", (
            f"bf16 would be faster, and needs {needed / 1e9:.1f} GB where "
            f"{card.vram_bytes / 1e9:.1f} GB are free"
        )
    return "bf16", (
        "this processor multiplies bf16 itself: the int4 codes are unpacked once, "
        f"for {more / 1e9:.1f} GB more memory"
    )
