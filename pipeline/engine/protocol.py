"""The one boundary behind which every engine stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from pipeline.schedule.request import Completion, Request


@dataclass(frozen=True)
class EngineFacts:
    """What a loaded engine says of itself. Lengths in tokens, ``kv_bytes`` in bytes.

    ``num_blocks`` counts usable KV-cache blocks (vLLM's null block is not among them).
    ``weights_bytes``: of all loaded parameters; 0 where the engine cannot tell.
    ``hybrid``: sliding layers give back the blocks that left their window.
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
    hybrid: bool = True


@dataclass(slots=True)
class EngineStats:
    """Counts since the engine was loaded, and the state after its last step."""

    running: int = 0
    waiting: int = 0
    kv_use: float = 0.0  # share of the blocks in use, 0..1
    preemptions: int = 0
    steps: int = 0


class Engine(Protocol):
    """Takes requests, makes progress by steps, gives completions in any order."""

    @property
    def facts(self) -> EngineFacts: ...

    @property
    def stats(self) -> EngineStats: ...

    def add(self, request: Request) -> None:
        """Queue a request. Raises RowError when the engine will not have it."""

    def step(self) -> list[Completion]:
        """Advance all requests by one step; those that ended."""

    def abort(self, request_ids: Iterable[int]) -> None:
        """Drop requests; no completion comes for them."""

    def close(self) -> None:
        """Give the device back."""
