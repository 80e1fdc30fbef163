"""Where a card's memory goes: weights, overhead, and the KV cache that remains. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.budget.cards.lookup import Card
from pipeline.budget.kv_layout import CUDA_BATCHES_IN_FLIGHT, KvLayout
from pipeline.budget.overhead import Overhead, memory_share, overhead, untried_bytes
from pipeline.budget.weights import Weights
from pipeline.model.geometry import Geometry

CUDA_BLOCK_SIZE = 16
CPU_BLOCK_SIZE = 32  # its kernels take multiples of 32; small ones lose least of a shared prefix
KV_DTYPE_BYTES = {"fp32": 4, "bf16": 2, "fp8": 1}


@dataclass(frozen=True)
class Setup:
    """The engine settings that memory depends on. ``chunk``: max_num_batched_tokens, tokens.
    ``cards``: how many share each layer (tensor parallel). ``scored``: prompts are."""

    kv_dtype: str = "bf16"
    vision: bool = False
    hybrid: bool = True
    chunk: int = 2048
    max_num_seqs: int = 256
    share: float | None = None  # gpu_memory_utilization; None: chosen by card
    block_size: int | None = None
    eager: bool = False
    cards: int = 1
    kv_bytes: int | None = None  # given: no measuring
    offloaded_bytes: int = 0  # of the weights, kept in the machine's memory
    overhead_correction: int | None = None  # bytes that an engine on the card last reported
    scored: bool = False
    unpacked: bool = False  # int4 layers are held in bf16 (on a CPU)


@dataclass(frozen=True)
class MemorySplit:
    """Bytes of one card. ``kv_bytes`` may be negative: so much is missing."""

    card: Card
    layout: KvLayout
    weights_bytes: int
    overhead: Overhead
    usable_bytes: int
    kv_bytes: int

    @property
    def num_gpu_blocks(self) -> int:
        return max(0, self.layout.num_gpu_blocks(self.kv_bytes))


def memory_split(geometry: Geometry, weights: Weights, card: Card, setup: Setup) -> MemorySplit:
    """Divide ``card``'s memory for one engine (or its part of one, with several cards)."""
    if setup.unpacked:
        weights = weights.unpacked(geometry)
    loaded = weights.on_card(geometry, setup.cards, vision=setup.vision)
    loaded = max(0, loaded - setup.offloaded_bytes)
    taken = overhead(
        geometry,
        card,
        chunk=setup.chunk,
        max_num_seqs=setup.max_num_seqs,
        vision=setup.vision,
        eager=setup.eager,
        cards=setup.cards,
    )
    if setup.overhead_correction is not None:
        taken = Overhead(setup.overhead_correction, 0, 0, 0, reported=True)
    share = share_of(geometry, card, setup) if setup.share is None else setup.share
    usable = int(card.vram_bytes * share)
    if card.is_cpu:
        usable //= setup.cards  # parts of an engine that share the machine's memory
    kv_bytes = usable - loaded - taken.total
    if card.is_cpu:
        kv_bytes = min(kv_bytes, card.vram_bytes // 4)  # as run does: others need memory too
    if setup.kv_bytes is not None:
        kv_bytes = setup.kv_bytes
    return MemorySplit(card, kv_layout(geometry, card, setup), loaded, taken, usable, kv_bytes)


def share_of(geometry: Geometry, card: Card, setup: Setup) -> float:
    """The ``gpu_memory_utilization`` for an engine with such settings."""
    if card.is_cpu:
        return memory_share(card)
    untried = untried_bytes(
        geometry,
        chunk=setup.chunk,
        max_num_seqs=setup.max_num_seqs,
        cards=setup.cards,
        scored=setup.scored,
    )
    return memory_share(card, untried)


def kv_layout(geometry: Geometry, card: Card, setup: Setup) -> KvLayout:
    """The pool's geometry on one card."""
    geometry = geometry.on_one_of(setup.cards)
    default = CPU_BLOCK_SIZE if card.is_cpu else CUDA_BLOCK_SIZE
    in_flight = setup.chunk * (1 if card.is_cpu else CUDA_BATCHES_IN_FLIGHT)
    return KvLayout(
        geometry,
        setup.block_size or default,
        in_flight,
        KV_DTYPE_BYTES[setup.kv_dtype],
        setup.hybrid,
    )
