"""Admission to one engine: which requests may be in it at once, counted in KV-cache blocks.

A request is admitted when the blocks that all admitted requests will hold, including it, are
expected to stay within the pool at every future step. What a request will hold h steps from now is
uncertain: it still runs with the probability that completions of this job have shown
(`OutputLengths`, given what it has generated already), and then holds the blocks of a sequence h
tokens longer. Requests end independently, so the sum over all of them has the mean and the variance
of a sum, and the packer admits while

    mean(h) + safety_margin * sqrt(variance(h)) <= pool    at every h at which it may still run.

Steps after its own end do not count: waiting could not prevent an overflow there. So a few requests
that run on and on, some of which may fill the cache in thousands of steps, do not hold back short
ones now.

The future peak is the idea of LightLLM's Past-Future scheduler (Gong et al., ASPLOS 2025), with
moments in place of one drawn sample. How cautious to be is learned: see `safety_margin`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipeline.admission.demand import Demand
from pipeline.admission.lengths import OutputLengths
from pipeline.admission.safety_margin import SafetyMargin
from pipeline.budget.kv_layout import KvLayout

_HORIZON = (0, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
_DOUBT = 0.1  # share of the (upper) bound by which all survival estimates may be off
_FEW = 64  # completions; until then the curves are computed anew at every look
_CALM = 64  # requests in a row that had room: there is enough of it
_NEW = 32  # completions, after which they are computed anew later
_THERE = 0.02  # below this chance of still running, a request counts as ended
_BOLD = 1.0  # standard deviations by which more requests are assumed to have ended by now
_COLUMNS = ("_tokens", "_generated", "_limit", "_row", "_shared", "_since")

_Ints = int | NDArray[np.int64]
_Future = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
_Look = tuple[int, int, _Future, NDArray[np.bool_]]


class Packer:
    """The admitted requests of one engine: what they hold now and will hold later.

    Ask with ``refusal``, then ``admit``. Report tokens with ``generated``, ends with ``finished``,
    and steps and recomputation to its ``safety_margin``. ``free + held == pool`` after every call.
    """

    def __init__(
        self,
        layout: KvLayout,
        pool_blocks: int,
        max_num_seqs: int,
        lengths: OutputLengths,
        steps_ahead: int = 0,
    ) -> None:
        """``steps_ahead``: steps that the engine has scheduled beyond those that were reported to
        the packer (see ``EngineFacts``)."""
        self.pool = pool_blocks
        self.max_num_seqs = max_num_seqs
        self._freely = _CALM  # requests admitted since one had to wait for blocks
        self.safety_margin = SafetyMargin(lengths.prior_mean)
        self._layout = layout
        self._lengths = lengths
        self._full, self._sliding = layout.full_groups, layout.sliding_groups
        self._window_blocks = -(-layout.geometry.sliding_window // layout.block_size) + 1
        ahead = {*_HORIZON, *range(1024, lengths.limit, 512), lengths.limit - 1}
        self._ahead = steps_ahead
        self._horizon = np.array(sorted(h for h in ahead if h < lengths.limit), np.int64)
        self._slots: dict[int, int] = {}  # request id -> place in the arrays
        self._demands: list[Demand] = []
        size = max_num_seqs + 8
        self._tokens = np.zeros(size, np.int64)
        self._generated = np.zeros(size, np.int64)
        self._limit = np.zeros(size, np.int64)
        self._row = np.zeros(size, np.int64)
        self._shared = np.zeros(size, np.int64)  # blocks of each that are counted only once
        self._since = np.zeros(size, np.int64)  # the step before which each was admitted
        self._told = 0  # steps
        self._near = min(steps_ahead, 1)  # future steps that need no margin
        self._holder: dict[int, int] = {}  # block key -> the one request that holds it
        self._sharers: dict[int, list[int]] = {}  # block key held twice -> holders, blocks of it
        self._shared_blocks = 0  # of all keys in _sharers
        self._stale = True
        self._mean = self._variance = self._doubt = np.zeros(len(self._horizon), np.float32)
        self._expected = 0.0  # requests that run when this decision reaches the engine
        self._curves, self._unsure = lengths.curves(self._row[:0], self._row[:0])
        self._drawn = 0  # completions that the curves know
        self._looked: tuple[Demand, _Look] | None = None

    @property
    def running(self) -> int:
        """Requests admitted and not finished."""
        return len(self._demands)

    @property
    def held(self) -> int:
        """Blocks of all admitted requests as long as they are now, shared ones once."""
        tokens = self._tokens[: self.running]
        whole = -(-tokens // self._layout.block_size)
        own = self._full * whole + self._sliding * np.minimum(whole, self._window_blocks)
        return int((own - self._shared[: self.running]).sum()) + self._shared_blocks

    @property
    def free(self) -> int:
        return self.pool - self.held

    @property
    def peak(self) -> float:
        """The most blocks that all admitted requests are expected to hold at any future step, with
        the deviations that the margin adds."""
        return float(self._expect(*self._future()).max())

    @property
    def roomy(self) -> bool:
        """Whether no request had to wait for blocks recently."""
        return self._freely >= _CALM

    def cache_share(self, prompt_tokens: int) -> float:
        """How much of the pool a prompt takes while it is computed, if it shares nothing."""
        return self._layout.prefill_blocks(prompt_tokens) / self.pool

    def shared_tokens(self, demand: Demand) -> int:
        """Tokens at the prompt's start, in whole blocks, that admitted requests already hold."""
        return self._look(demand)[0] * self._layout.block_size

    def refusal(self, demand: Demand) -> str | None:
        """Why ``demand`` must wait; None if it may be admitted now."""
        if not self._demands:
            return None  # alone it may always go in
        mean, variance, doubt = self._future()
        if self._expected + 1 > self.max_num_seqs:
            return "max_num_seqs requests are running"
        _, _, (more, spread, unsure), there = self._look(demand)
        # of an engine that is ahead this is what may hold by now: one too many waits in its queue
        if mean[0] - _BOLD * math.sqrt(variance[0]) + more[0] > self.pool:
            self._freely = 0
            return "the KV cache is full"
        peak = self._expect(mean + more, variance + spread, doubt + unsure)
        if float(peak[self._near :].max(where=there[self._near :], initial=0)) > self.pool:
            self._freely = 0
            return "the KV cache would overflow before enough requests end"
        return None

    def admit(self, demand: Demand) -> None:
        """Count ``demand`` as admitted."""
        mean, variance, doubt = self._future()
        common, shared, (more, spread, unsure), _ = self._look(demand)
        self._mean, self._variance, self._doubt = mean + more, variance + spread, doubt + unsure
        self._expected += 1
        place = len(self._demands)
        if place == len(self._tokens):
            self._grow()
        self._share(demand, common)
        self._freely += 1
        self._looked = None
        self.safety_margin.admitted(demand.prompt_tokens)
        self._slots[demand.id] = place
        self._demands.append(demand)
        self._tokens[place] = demand.prompt_tokens
        self._generated[place] = 0
        self._since[place] = self._told
        self._limit[place] = demand.max_new_tokens
        self._row[place] = self._row_of(demand)
        self._shared[place] = shared

    def generated(self, request_ids: Iterable[int], steps: int = 1) -> None:
        """Each of ``request_ids`` got ``steps`` more tokens, for each time it is listed. Requests
        that are not admitted (they have ended meanwhile) are ignored."""
        self._told += steps
        self._stale |= self._ahead > 0
        slots = self._slots
        places = [slots[i] for i in request_ids if i in slots]
        if places:
            np.add.at(self._tokens, places, steps)
            np.add.at(self._generated, places, steps)
            self.safety_margin.generated(steps * len(places))
            self._stale = True

    def finished(self, request_id: int, completion_tokens: int | None = None) -> None:
        """Give back what the request held; its length (None: it failed) improves later estimates.
        One that is not admitted (it has ended before) is ignored."""
        place = self._slots.pop(request_id, None)
        if place is None:
            return
        self._looked = None
        demand = self._demands[place]
        self._unshare(demand)
        if completion_tokens is not None:
            cut = completion_tokens >= demand.max_new_tokens
            self._lengths.observe(demand.group, completion_tokens, cut=cut)
            self.safety_margin.ended(completion_tokens)
        last = self._demands.pop()
        end = len(self._demands)
        if place < end:  # the last one takes the place
            self._demands[place] = last
            self._slots[last.id] = place
            for name in _COLUMNS:
                column = getattr(self, name)
                column[place] = column[end]
        self._stale = True

    def check(self) -> None:
        """Raise AssertionError unless the running counts agree with a count from scratch."""
        assert self.free + self.held == self.pool
        assert sorted(self._slots.values()) == list(range(self.running))
        keys: dict[int, int] = {}
        for demand in self._demands:
            for key in demand.keys:
                keys[key] = keys.get(key, 0) + 1
        assert set(keys) == set(self._holder) | set(self._sharers)
        assert all(keys[k] == n for k, (n, _) in self._sharers.items())
        assert all(keys[k] == 1 for k in self._holder)

    def _expect(
        self,
        mean: NDArray[np.float32],
        variance: NDArray[np.float32],
        doubt: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Blocks at each step of the horizon, with the deviations that the margin adds."""
        care = np.float32(self.safety_margin.at(self.running))
        unsure = np.square(_DOUBT * doubt) if care > 0 else 0
        expected: NDArray[np.float32] = (mean + care * np.sqrt(variance + unsure)).astype(
            np.float32
        )
        return expected

    def _future(self) -> _Future:
        """Mean and variance of the blocks held at each step of the horizon, and the deviation of
        that mean itself, since survival is only estimated (and the error is the same for all
        requests)."""
        if not self._stale:
            return self._mean, self._variance, self._doubt
        n = self.running
        rows, generated = self._row[:n], self._generated[:n]
        new = self._lengths.observed - self._drawn
        if new >= _NEW or (new and self._lengths.observed < _FEW):
            self._redraw()
        # they are further than we know; those just admitted may be as far as possible
        age = np.where(generated > 0, self._ahead, self._told - self._since[:n])
        ahead = np.minimum(age, self._ahead)[:, None] + self._horizon
        later = generated[:, None] + ahead
        alive, unsure = self._alive(rows[:, None], generated[:, None], later, self._limit[:n, None])
        own = self._own(self._tokens[:n, None] + ahead, self._shared[:n, None])
        expected = alive * own
        now = alive[:, 0]
        running = float(now.sum()) - _BOLD * math.sqrt(float((now - now * now).sum()))
        self._expected = running if self._ahead else n
        self._mean = expected.sum(0) + self._shared_blocks
        self._variance = (expected * own - expected * expected).sum(0)
        self._doubt = (unsure * own).sum(0)
        self._stale = False
        return self._mean, self._variance, self._doubt

    def _redraw(self) -> None:
        n = self.running
        self._curves, self._unsure = self._lengths.curves(self._row[:n], self._generated[:n])
        self._drawn = self._lengths.observed
        self._looked = None

    def _look(self, demand: Demand) -> _Look:
        """What ``demand`` shares with admitted requests (keys, blocks), mean and variance of what
        it alone adds, and where on the horizon it may still run. The result is kept, because the
        request asked about is usually admitted next."""
        if self._looked is None or self._looked[0] is not demand:
            common, shared = self._common(demand)
            self._looked = demand, (common, shared, *self._curve_of(demand, shared))
        return self._looked[1]

    def _curve_of(self, demand: Demand, shared: int) -> tuple[_Future, NDArray[np.bool_]]:
        alive, unsure = self._alive(self._row_of(demand), 0, self._horizon, demand.max_new_tokens)
        own = self._own(demand.prompt_tokens + self._horizon, shared)
        expected = alive * own
        variance = expected * own - expected * expected
        # its prefill may hold more than its decoding: sliding groups keep whole chunks
        expected[0] = max(expected[0], self._layout.prefill_blocks(demand.prompt_tokens) - shared)
        return (expected, variance, unsure * own), alive >= _THERE

    def _row_of(self, demand: Demand) -> int:
        row = self._lengths.row(demand.group)
        if row >= len(self._curves):  # the first of its group
            self._redraw()
        return row

    def _alive(
        self, rows: _Ints, generated: _Ints, later: NDArray[np.int64], limit: _Ints
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The probability of still running at ``later`` generated tokens, given ``generated`` so
        far, and how far that may be wrong."""
        longest = self._curves.shape[1] - 1
        then, now = np.minimum(later, longest), np.minimum(generated, longest)
        alive = np.exp(self._curves[rows, then] - self._curves[rows, now])
        alive = np.where(later < limit, alive, np.float32(0))
        unsure = np.maximum(self._unsure[rows, then] - self._unsure[rows, now], 0)
        # no more than that of a probability of which nothing is known
        return alive, np.sqrt(np.minimum(alive * alive * unsure, alive * (1 - alive)))

    def _own(self, tokens: NDArray[np.int64], shared: _Ints) -> NDArray[np.float32]:
        """Blocks that sequences of ``tokens`` hold, without the ``shared`` ones."""
        whole = (tokens + (self._layout.block_size - 1)) // self._layout.block_size
        blocks = self._full * whole + self._sliding * np.minimum(whole, self._window_blocks)
        own: NDArray[np.float32] = (blocks - shared).astype(np.float32)
        return own

    def _common(self, demand: Demand) -> tuple[int, int]:
        """How many of its first keys admitted requests hold, and the blocks that ``demand``
        therefore does not hold itself."""
        weight = self._weight(demand)
        count = blocks = 0
        for key in demand.keys:
            if key in self._sharers:
                blocks += min(weight, self._sharers[key][1])
            elif key in self._holder:
                blocks += min(weight, self._weight(self._demand(self._holder[key])))
            else:
                break
            count += 1
        return count, blocks

    def _weight(self, demand: Demand) -> int:
        """Blocks of one key in all groups: in sliding groups only if the prompt lies within the
        window (otherwise they are given back while the request runs)."""
        within = demand.prompt_tokens <= self._layout.geometry.sliding_window
        return self._full + (self._sliding if within else 0)

    def _demand(self, request_id: int) -> Demand:
        return self._demands[self._slots[request_id]]

    def _share(self, demand: Demand, common: int) -> None:
        for key in demand.keys[:common]:
            if key in self._sharers:
                self._sharers[key][0] += 1
                continue
            place = self._slots[self._holder.pop(key)]
            weight = min(self._weight(demand), self._weight(self._demands[place]))
            self._sharers[key] = [2, weight]
            self._shared[place] += weight
            self._shared_blocks += weight
        self._holder.update(dict.fromkeys(demand.keys[common:], demand.id))

    def _unshare(self, demand: Demand) -> None:
        for key in demand.keys:
            entry = self._sharers.get(key)
            if entry is None:
                self._holder.pop(key, None)
            elif entry[0] > 1:
                entry[0] -= 1
            else:
                del self._sharers[key]
                self._shared_blocks -= entry[1]

    def _grow(self) -> None:
        for name in _COLUMNS:
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
