"""The one interface that every engine implements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

from pipeline.budget.kv_layout import KvLayout
from pipeline.model.geometry import Geometry
from pipeline.rows.request import Completion, Request
from pipeline.simulate.vllm_model.scheduler import EngineModel

SEAT = "RACKMILL_SEAT"  # an engine's number among those of the run, in its environment
SEATS = "RACKMILL_SEATS"  # engines that share its machine's processor, in a server's environment


@dataclass(frozen=True)
class EngineFacts:
    """What a loaded engine reports of itself. Lengths in tokens; bytes are those on each of its
    ``cards``.

    ``num_blocks`` counts usable KV-cache blocks (without vLLM's null block). ``weights_bytes``: of
    all loaded parameters; 0 where the engine does not know. ``hybrid``: sliding layers give back
    the blocks that left their window. ``batches_in_flight``: steps that may run at the same time.
    ``steps_ahead``: how many steps beyond the last reported one are scheduled before a decision
    reaches the engine: all but one of the batches, and one more where the engine steps by itself in
    another process. ``prefix_caching``; with ``dense_retention`` every block of sliding layers is
    kept for it, not only the prompts' last. ``compile_seconds``: the part of loading in which code
    was compiled that later engines reuse. ``computed_in``: "bf16" where int4 codes were unpacked.
    ``logprobs``: it reports log-probabilities of tokens, by which choices are weighed. ``held``:
    shapes that it restricts answers to, "json" and "regex". ``served_model``: what a server calls
    its model.
    """

    kind: str
    version: str
    device: str
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    block_size: int
    num_blocks: int
    kv_bytes: int
    weights_bytes: int = 0
    cards: int = 1
    hybrid: bool = True
    kv_dtype_bytes: int = 2
    batches_in_flight: int = 1
    steps_ahead: int = 0
    prefix_caching: bool = True
    dense_retention: bool = False
    compile_seconds: float = 0.0
    computed_in: str = ""  # if it is not the type in which the weights are stored
    logprobs: bool = True
    held: tuple[str, ...] = ("json", "regex")
    served_model: str = ""

    def name(self, quantization: str) -> str:
        """Which engine and weights answer, in words: "vllm int4 group 32". ``quantization``: of the
        job's model."""
        return f"{self.kind} {self.served_model or quantization}"

    def layout(self, geometry: Geometry) -> KvLayout:
        """How the engine lays its blocks out."""
        return KvLayout(
            geometry.on_one_of(self.cards),
            self.block_size,
            self.max_num_batched_tokens * self.batches_in_flight,
            self.kv_dtype_bytes,
            self.hybrid,
        )

    def model(self, geometry: Geometry) -> EngineModel:
        """A model of what the engine does with requests and blocks, with nothing in it yet."""
        return EngineModel(
            self.layout(geometry),
            self.num_blocks,
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            prefix_caching=self.prefix_caching,
            dense_retention=self.dense_retention,
            max_model_len=self.max_model_len,
        )


@dataclass(slots=True)
class EngineStats:
    """Counts since the engine was loaded, and its state after the last step.

    ``kv_use``: share of the blocks that running requests hold, 0..1. ``recomputed_tokens``:
    computed again after a preemption. ``sampled``: the requests that got a token in the last step,
    once for each token (a server's step may give several); before that step all of them were added,
    and had neither ended nor been aborted. ``late_tokens``: tokens that came for other requests,
    and were dropped.
    """

    running: int = 0
    waiting: int = 0
    kv_use: float = 0.0
    preemptions: int = 0
    recomputed_tokens: int = 0
    steps: int = 0
    late_tokens: int = 0
    sampled: Sequence[int] = ()

    def clear(self) -> None:
        for one in fields(self):
            setattr(self, one.name, one.default)


class Engine(Protocol):
    """Takes requests, advances by steps, returns completions in any order."""

    @property
    def facts(self) -> EngineFacts: ...

    @property
    def stats(self) -> EngineStats: ...

    def add(self, request: Request) -> None:
        """Queue a request. Raises RowError when the engine refuses it."""

    def step(self) -> list[Completion]:
        """Advance all requests by one step. Returns those that ended; returns at once where there
        are none."""

    def abort(self, request_ids: Iterable[int]) -> None:
        """Drop requests: no more tokens or completions come for them."""

    def reset(self) -> None:
        """Go back to the state after loading: no requests, an empty prefix cache, statistics at
        zero. Raises EngineFailed."""

    def close(self) -> None:
        """Free the device."""
