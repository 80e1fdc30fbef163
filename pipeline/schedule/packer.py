"""Admission to one engine: which requests may be in it at once, counted in KV-cache blocks."""

from __future__ import annotations

from pipeline.budget.kv import KvLayout
from pipeline.schedule.lengths import OutputLengths
from pipeline.schedule.request import Request


class Packer:
    """Reserves each request's blocks at its expected end, shared prefixes once.

    Ask with ``refusal``, then ``admit``; report ``finished`` requests. The conservation rule
    ``free + held == pool`` holds after every call.
    """

    def __init__(
        self, layout: KvLayout, pool_blocks: int, max_num_seqs: int, lengths: OutputLengths
    ) -> None:
        self._layout = layout
        self._pool = pool_blocks
        self._max_num_seqs = max_num_seqs
        self._lengths = lengths
        self._admitted: dict[int, int] = {}  # request id -> blocks reserved
        self._held = 0

    @property
    def free(self) -> int:
        """Blocks that no admitted request has reserved (negative: lengths were underestimated)."""
        return self._pool - self._held

    @property
    def held(self) -> int:
        return self._held

    @property
    def running(self) -> int:
        return len(self._admitted)

    def blocks_for(self, request: Request) -> int:
        """Blocks that ``request`` will hold at its expected end, beyond a cached prefix."""
        new = self._lengths.expected(request.max_new_tokens)
        whole = self._layout.blocks(len(request.prompt_ids) + new)
        shared = request.shared_tokens // self._layout.block_size
        return whole - (self._layout.blocks(shared * self._layout.block_size) if shared else 0)

    def refusal(self, request: Request) -> str | None:
        """Why ``request`` must wait; None if it may be admitted now."""
        if not self._admitted:
            return None  # alone it always may: the engine itself checked that one fits
        if len(self._admitted) >= self._max_num_seqs:
            return "max_num_seqs requests are running"
        if self.blocks_for(request) > self.free:
            return "the KV cache is full"
        return None

    def admit(self, request: Request) -> None:
        """Reserve what ``request`` needs."""
        blocks = self.blocks_for(request)
        self._admitted[request.id] = blocks
        self._held += blocks

    def finished(self, request_id: int, completion_tokens: int | None = None) -> None:
        """Give back what the request held; its length (None: it failed) informs later ones."""
        self._held -= self._admitted.pop(request_id)
        if completion_tokens is not None:
            self._lengths.observe(completion_tokens)
