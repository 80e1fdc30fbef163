"""The one boundary behind which every engine stands."""

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
    """What a loaded engine says of itself. Lengths in tokens; bytes are those on each of its
    ``cards``.

    ``num_blocks`` counts usable KV-cache blocks (vLLM's null block is not among them).
    ``weights_bytes``: of all loaded parameters; 0 where the engine cannot tell.
    ``hybrid``: sliding layers give back the blocks that left their window.
    ``batches_in_flight``: steps that may be under way at once. ``steps_ahead``: steps that are
    scheduled, beyond the last one told of, before it hears what was decided then: all but one of
    the batches, and one more where the engine steps by itself in another process.
    ``prefix_caching``, and
    ``dense_retention``: every block of sliding layers is kept for it, not only the prompts' last.
    ``compile_seconds``: of its loading, in which code was compiled that later engines find.
    ``computed_in``: "bf16" where int4 codes were unpacked. ``logprobs``: it tells log-probabilities
    of tokens, by which choices are weighed. ``held``: shapes that it holds answers to, "json" and
    "regex". ``served_model``: what a server calls its model.
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
    computed_in: str = ""  # where that is not what the weights are stored in
    logprobs: bool = True
    held: tuple[str, ...] = ("json", "regex")
    served_model: str = ""

    def name(self, quantization: str) -> str:
        """What its answers come from, in words: "vllm int4 group 32". ``quantization``: of the
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
        """Of what the engine does with requests and blocks, with nothing in it yet."""
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
    """Counts since the engine was loaded, and the state after its last step.

    ``kv_use``: share of the blocks that running requests hold, 0..1. ``recomputed_tokens``:
    computed again after a preemption. ``sampled``: the requests that the last step gave a token,
    each as often as it got one (servers' steps are long);
    all of them were added, and have neither ended nor been aborted, before that step.
    ``late_tokens``: those that came for others, and were dropped.
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
    """Takes requests, makes progress by steps, gives completions in any order."""

    @property
    def facts(self) -> EngineFacts: ...

    @property
    def stats(self) -> EngineStats: ...

    def add(self, request: Request) -> None:
        """Queue a request. Raises RowError when the engine will not have it."""

    def step(self) -> list[Completion]:
        """Advance all requests by one step; those that ended. Returns at once where there are
        none."""

    def abort(self, request_ids: Iterable[int]) -> None:
        """Drop requests: neither tokens nor completions come for them from now on."""

    def reset(self) -> None:
        """Be as after loading: no requests, nothing in the prefix cache, statistics at zero.
        Raises EngineFailed."""

    def close(self) -> None:
        """Give the device back."""
