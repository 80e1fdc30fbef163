"""A scheduler that knows the length of every answer: how good could admission be? Pure.

It admits a request if the exact future peak of blocks, with true lengths, stays within the pool,
and chooses freely among the waiting ones: the longest answer that fits, so that only short ones
are left at the end. It is not proven to be optimal (that is a packing problem), but no scheduler
that has to guess can match it.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.admission.demand import Demand
from pipeline.admission.policies.pass_through import PassThrough
from pipeline.admission.policy import Limits
from pipeline.simulate.vllm_model.kv_cache import Sequence
from pipeline.simulate.vllm_model.scheduler import EngineModel

_WINDOW = 128  # waiting requests, in order, that it chooses from; what fits worst waits longest
_MOMENTS = 96  # future steps at which usage is checked, if more requests run
_FORGET = 0.98  # of the reserve, with every request that ends
_MOST_RESERVED = 0.05
_Ints = NDArray[np.int32]


class _RunningDemand(NamedTuple):
    """Requests in the engine: their tokens, the tokens still to come, and how many of their first
    columns are counted for another request."""

    tokens: _Ints
    left: _Ints
    prefix: _Ints


class Oracle(PassThrough):
    """``engine``: it reads its state. ``truth``: request id -> tokens of its completion."""

    def __init__(self, limits: Limits, engine: EngineModel, truth: Mapping[int, int]) -> None:
        super().__init__()
        layout = limits.layout
        self._engine = engine
        self._size, self._span = layout.block_size, layout.geometry.sliding_window
        self._full, self._sliding = layout.full_groups, layout.sliding_groups
        self._cap = layout.admission_cap(layout.geometry.context)
        self._pool = limits.pool_blocks
        self._max_num_seqs = limits.max_num_seqs
        self._truth = truth
        self._reserve = 0.0  # blocks: usage of shared prefixes is not predicted exactly
        self._window: list[Demand] = []  # the first of the waiting, the shortest answer first

    def __len__(self) -> int:
        return len(self._window) + super().__len__()

    def forget(self, request_id: int) -> None:
        self._window = [demand for demand in self._window if demand.id != request_id]
        super().forget(request_id)

    def take_back(self) -> list[int]:
        ids = [demand.id for demand in self._window]
        self._window.clear()
        return ids + super().take_back()

    def next(self, *, inside: int, waiting: int, ending: bool) -> Demand | None:
        while len(self._window) < _WINDOW:
            demand = super().next(inside=inside, waiting=waiting, ending=ending)
            if demand is None:
                break
            insort(self._window, demand, key=self._length)
        if not self._window or inside >= self._max_num_seqs:
            return None
        place = self._choose(self._engine)
        if place is None:
            return None
        return self._window.pop(place)

    def _length(self, demand: Demand) -> tuple[int, int]:
        return (self._truth[demand.id], demand.prompt_tokens)

    def finished(self, request_id: int, tokens: int | None) -> None:  # noqa: ARG002
        self._reserve *= _FORGET

    def recomputed(self, tokens: int) -> None:  # noqa: ARG002
        self._reserve = min(self._reserve + self._full + self._sliding, _MOST_RESERVED * self._pool)

    def _choose(self, engine: EngineModel) -> int | None:
        """Place in the window of the longest answer that fits at every future step."""
        inside = [*engine.running, *engine.waiting]
        if not inside:
            return len(self._window) - 1
        left = np.array([self._truth[s.id] - s.generated for s in inside], np.int32)
        last = self._last_of_group(inside, left)
        keepers = set(last.values())
        now = _RunningDemand(
            np.array([s.tokens for s in inside], np.int32),
            left,
            # the prefix counts for the request that keeps it longest, not for the others
            np.array([0 if s.id in keepers else len(s.keys) for s in inside], np.int32),
        )
        ends = np.unique(left)  # usage is highest just before one ends
        if len(ends) > _MOMENTS:
            ends = ends[np.linspace(0, len(ends) - 1, _MOMENTS).astype(np.int32)]
        held = self._held(now, ends)
        if held.max() > self._pool:
            return None
        rows = self._window
        prompt = np.array([d.prompt_tokens for d in rows], np.int32)
        output = np.array([self._truth[d.id] for d in rows], np.int32)
        columns = np.array([len(d.keys) for d in rows], np.int32)
        kept = {s.id: int(n) for s, n in zip(inside, left, strict=True)}
        keeper = [last.get(d.keys[0]) if d.keys else None for d in rows]
        until = np.array([-1 if k is None else kept[k] for k in keeper], np.int32)
        pool = self._pool - self._reserve
        shared = np.where(ends <= until[:, None], columns[:, None], 0)
        fits = self._own(prompt[:, None] + ends, shared) <= pool - held
        fits |= ends > output[:, None]
        # at its own end it is largest, and the others hold what they hold then
        largest = self._own(prompt + output, np.where(output <= until, columns, 0))
        good = fits.all(axis=1) & (largest <= pool - self._held(now, output))
        found_there = np.where(until >= 0, columns, 0)
        good &= self._admitted(prompt, found_there) <= engine.free
        found = np.flatnonzero(good)
        return int(found[-1]) if len(found) else None

    def _last_of_group(self, inside: list[Sequence], left: _Ints) -> dict[int, int]:
        """First key of a prefix -> the id of the request that will hold it longest."""
        last: dict[int, tuple[int, int]] = {}
        for sequence, remaining in zip(inside, left.tolist(), strict=True):
            if sequence.keys:
                key = sequence.keys[0]
                last[key] = max(last.get(key, (-1, -1)), (remaining, sequence.id))
        return {key: request_id for key, (_, request_id) in last.items()}

    def _held(self, now: _RunningDemand, later: _Ints) -> _Ints:
        """Blocks of all requests in the engine, ``later`` steps from now: [len(later)]."""
        own = self._own(now.tokens[:, None] + later, now.prefix[:, None])
        held: _Ints = (own * (now.left[:, None] >= later)).sum(axis=0)
        return held

    def _own(self, tokens: _Ints, prefix: _Ints) -> _Ints:
        """Blocks of a sequence of ``tokens``, without those of its first ``prefix`` columns, which
        others hold; sliding groups hold a column while it is within the window."""
        whole = -(-tokens // self._size)
        skipped = np.maximum(tokens - self._span, 0) // self._size
        return self._sum(whole - prefix, whole - np.maximum(skipped, prefix))

    def _admitted(self, prompt: _Ints, prefix: _Ints) -> _Ints:
        """Free blocks that the engine requires before it takes a prompt."""
        whole = -(-prompt // self._size)
        return self._sum(whole - prefix, np.maximum(np.minimum(whole, self._cap) - prefix, 0))

    def _sum(self, full: _Ints, sliding: _Ints) -> _Ints:
        blocks: _Ints = self._full * full + self._sliding * sliding
        return blocks
