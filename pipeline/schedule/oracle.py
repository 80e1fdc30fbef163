"""The scheduler that knows how long every answer will be: how good could admission be? Pure.

It admits a request when the exact future peak of blocks, with true lengths, stays within the
pool, and picks freely among the waiting ones: the longest answer that fits, so that what is left
for the end is short. It is no proof of the optimum (that is a packing problem), but no scheduler
that has to guess can do what it does.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.budget.kv import KvLayout
from pipeline.schedule.engine_model import EngineModel
from pipeline.schedule.packer import Demand

_WINDOW = 128  # of the waiting, in order, that it picks from: what fits worst is left longest
_Ints = NDArray[np.int64]


class Oracle:
    """``truth``: request id -> tokens of its completion."""

    patience = 1 << 30

    def __init__(
        self, layout: KvLayout, pool_blocks: int, max_num_seqs: int, truth: Mapping[int, int]
    ) -> None:
        self._layout = layout
        self._columns = -(-layout.geometry.sliding_window // layout.block_size) + 1
        self._pool = pool_blocks
        self._max_num_seqs = max_num_seqs
        self._truth = truth
        self._waiting: deque[Demand] = deque()
        self._window: list[Demand] = []  # the first of the waiting, the shortest answer first
        self._shares: dict[int, int] = {}  # group -> requests of it in the engine
        self._inside: dict[int, Demand] = {}

    def add(self, demand: Demand) -> None:
        self._waiting.append(demand)

    def take_back(self) -> list[int]:
        ids = [demand.id for demand in (*self._window, *self._waiting)]
        self._waiting.clear()
        self._window.clear()
        return ids

    def next(self, engine: EngineModel, *, ending: bool) -> Demand | None:  # noqa: ARG002
        while self._waiting and len(self._window) < _WINDOW:
            insort(self._window, self._waiting.popleft(), key=self._length)
        if not self._window or len(engine.running) + len(engine.waiting) >= self._max_num_seqs:
            return None
        place = self._choose(engine)
        if place is None:
            return None
        demand = self._window.pop(place)
        self._inside[demand.id] = demand
        if demand.keys:
            self._shares[demand.keys[0]] = self._shares.get(demand.keys[0], 0) + 1
        return demand

    def _length(self, demand: Demand) -> tuple[int, int]:
        return (self._truth[demand.id], demand.prompt_tokens)

    def generated(self, ids: Iterable[int], steps: int) -> None:
        pass

    def finished(self, request_id: int, tokens: int | None) -> None:  # noqa: ARG002
        demand = self._inside.pop(request_id)
        if demand.keys:
            self._shares[demand.keys[0]] -= 1

    def recomputed(self, tokens: int) -> None:
        pass

    def __len__(self) -> int:
        return len(self._waiting) + len(self._window)

    def _choose(self, engine: EngineModel) -> int | None:
        """Place among the waiting of the longest that fits at every moment to come."""
        inside = [*engine.running, *engine.waiting]
        if not inside:
            return len(self._window) - 1
        tokens = np.array([s.tokens for s in inside], np.int64)
        left = np.array([self._truth[s.id] - s.generated for s in inside], np.int64)
        shared = np.array([self._saved(self._inside[s.id], own=1) for s in inside], np.int64)
        ends = np.unique(left)  # use is highest just before one ends
        held = self._held(tokens, left, shared, ends)
        if held.max() > self._pool:
            return None
        rows = self._window
        prompt = np.array([d.prompt_tokens for d in rows], np.int64)
        output = np.array([self._truth[d.id] for d in rows], np.int64)
        saved = np.array([self._saved(d, own=0) for d in rows], np.int64)
        spare = self._pool - held
        then = np.minimum(ends[None, :], output[:, None])
        own = self._blocks(prompt[:, None] + then) - saved[:, None]
        # at its own end it is at its largest, and the others hold what they hold then
        at_end = self._pool - self._held(tokens, left, shared, output)
        fits = ((own <= spare[None, :]) | (ends[None, :] > output[:, None])).all(axis=1)
        fits &= self._blocks(prompt + output) - saved <= at_end
        charge = np.array([self._layout.prefill_blocks(int(p)) for p in prompt])
        fits &= charge - saved <= engine.free
        found = np.flatnonzero(fits)
        return int(found[-1]) if len(found) else None

    def _held(self, tokens: _Ints, left: _Ints, shared: _Ints, later: _Ints) -> _Ints:
        """Blocks of those inside, ``later`` steps from now: int64 [len(later)]."""
        own = self._blocks(tokens[:, None] + later[None, :]) - shared[:, None]
        held: _Ints = (own * (left[:, None] >= later[None, :])).sum(axis=0)
        return held

    def _blocks(self, tokens: _Ints) -> _Ints:
        whole = -(-tokens // self._layout.block_size)
        full, sliding = self._layout.full_groups, self._layout.sliding_groups
        blocks: _Ints = full * whole + sliding * np.minimum(whole, self._columns)
        return blocks

    def _saved(self, demand: Demand, *, own: int) -> int:
        """Blocks of its prefix that it need not hold alone: divided among all that share it."""
        if not demand.keys:
            return 0
        sharers = self._shares.get(demand.keys[0], 0)
        blocks = self._layout.blocks(len(demand.keys) * self._layout.block_size)
        return blocks - blocks // max(sharers, 1) if own else (blocks if sharers else 0)
