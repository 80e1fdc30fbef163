"""vLLM's KV-cache manager for Gemma 3's groups: hits, growth, trimming, caching. Pure.

Modelled on vLLM 0.32 ``v1/core/kv_cache_manager.py``, ``kv_cache_coordinator.py`` and
``single_type_kv_cache_manager.py``. All sliding groups of a model do the same at the same time,
and so do all full ones: a sequence holds *columns*, blocks of the same tokens in every group of a
kind. vLLM numbers Gemma 3's sliding groups first (its first layer is a sliding one), and frees
group by group, each from its last block: the order decides what is evicted first.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from pipeline.budget.kv_layout import KvLayout
from pipeline.simulate.vllm_model.block_pool import BlockPool, Column


@dataclass(slots=True, eq=False)
class Sequence:
    """A request in the engine. Sizes in tokens.

    ``keys``: of its prompt's whole blocks (``pipeline.admission.demand``); later blocks are never
    shared. ``reads_cache``: may take blocks from the prefix cache. ``computed``: tokens whose keys
    and values are in the cache. ``computed_once``: the largest value of that so far.
    """

    id: int
    prompt_tokens: int
    keys: tuple[int, ...] = ()
    reads_cache: bool = True
    generated: int = 0
    computed: int = 0
    computed_once: int = 0
    preemptions: int = 0
    columns: int = 0  # allocated in every group
    trimmed: int = 0  # of these, given back by the sliding groups: their window has passed
    cached: int = 0  # of these, checked for caching
    quiet_until: int = 0  # until it has slots for so many tokens, decoding changes no blocks
    junction: int = 0  # a longer prefix that only the full groups had, tokens
    full: list[Column] = field(default_factory=list, repr=False)
    window: list[Column | None] = field(default_factory=list, repr=False)

    @property
    def tokens(self) -> int:
        """Known tokens: the prompt and what was generated."""
        return self.prompt_tokens + self.generated

    @property
    def decoding(self) -> bool:
        """All known tokens except the last are computed."""
        return self.computed + 1 == self.prompt_tokens + self.generated and self.generated > 0

    def key(self, column: int) -> Hashable:
        return self.keys[column] if column < len(self.keys) else (self.id, column)


@dataclass(frozen=True, slots=True)
class Hit:
    """The part of a sequence in the prefix cache, in columns. ``longest``: of the full groups."""

    full: list[Column] = field(default_factory=list)
    window: list[Column | None] = field(default_factory=list)
    longest: int = 0


class KvCache:
    """``blocks``: usable ones. ``max_model_len``: tokens. ``dense``: sliding groups cache every
    block (``prefix_cache_retention_interval`` None), not only those before a place where a later
    request may resume (0, vLLM's default)."""

    def __init__(
        self, layout: KvLayout, blocks: int, max_model_len: int, *, caching: bool, dense: bool
    ) -> None:
        self.size = layout.block_size
        self.span = layout.geometry.sliding_window
        self.sliding = range(layout.sliding_groups)
        self.whole = range(layout.sliding_groups, layout.sliding_groups + layout.full_groups)
        self.groups = len(self.sliding) + len(self.whole)
        self.pool = BlockPool(blocks, self.groups)
        self._cap = layout.admission_cap(max_model_len)
        self._caching = caching
        self._dense = dense
        self._reach = -(-(self.span - 1) // self.size)  # columns that a hit's window needs

    def hit(self, sequence: Sequence) -> Hit:
        """The longest prefix that all groups still hold, without the last token."""
        if not (self._caching and sequence.reads_cache):
            return Hit()
        find, key = self.pool.find, sequence.key
        full: list[Column] = []
        for i in range((sequence.tokens - 1) // self.size):
            column = find(self.whole, key(i))
            if column is None:
                break
            full.append(column)
        longest = len(full)
        if not self.sliding:
            return Hit(full, [], longest)
        window: list[Column | None] = [None] * longest
        run = 0
        for i in range(longest - 1, -1, -1):
            window[i] = column = find(self.sliding, key(i))
            run = run + 1 if column is not None else 0
            if run == self._reach and run:
                del window[i + run :]
                break
        else:
            del window[run:]
        del full[len(window) :]
        return Hit(full, window, longest)

    def needed(self, hit: Hit, tokens: int, *, capped: bool = False) -> int:
        """Free blocks that a sequence not yet running needs for ``tokens`` slots.

        ``capped``: as vLLM's admission counts: sliding groups need no more than their window and
        the chunks in flight. Cached blocks that are not held count: they leave the free queue.
        """
        required, found = -(-tokens // self.size), len(hit.full)
        idle = sum(not block.users for column in hit.full for block in column)
        blocks = len(self.whole) * max(required - found, 0) + idle
        if self.sliding:
            skipped = self._skipped(found * self.size)
            if capped:
                required = min(required, self._cap)
            blocks += len(self.sliding) * max(required - max(skipped, found), 0)
            for column in hit.window[skipped:]:
                blocks += sum(not block.users for block in column or ())
        return blocks

    def begin(self, sequence: Sequence, hit: Hit) -> None:
        """Give the blocks of its hit to ``sequence``, which holds none."""
        skipped = min(self._skipped(len(hit.full) * self.size), len(hit.full))
        window = hit.window
        window[:skipped] = [None] * min(skipped, len(window))
        for column in hit.full:
            self.pool.hold(column)
        for reused in window:
            if reused is not None:
                self.pool.hold(reused)
        sequence.full, sequence.window = hit.full, window
        sequence.columns = sequence.cached = len(hit.full)
        sequence.trimmed = skipped

    def growth(self, sequence: Sequence, slots: int) -> int:
        """Blocks that a running sequence needs to have ``slots`` token slots in total."""
        return self.groups * max(-(-slots // self.size) - sequence.columns, 0)

    def grow(self, sequence: Sequence, slots: int) -> None:
        """Allocate them; evicts cached free blocks if necessary."""
        columns = -(-slots // self.size)
        if columns > sequence.columns:
            self.pool.take(self.groups * (columns - sequence.columns))
            sequence.columns = columns

    def passed(self, sequence: Sequence) -> int:
        """Columns of ``sequence`` that no future token attends to in sliding layers."""
        return min(self._skipped(sequence.computed), sequence.columns)

    def trim(self, sequence: Sequence) -> None:
        """Give back the sliding groups' blocks that no future token attends to."""
        skipped = self.passed(sequence)
        if skipped <= sequence.trimmed or not self.sliding:
            return
        window, passed = sequence.window, range(skipped - 1, sequence.trimmed - 1, -1)
        known = [column for i in passed if i < len(window) and (column := window[i]) is not None]
        self.pool.give_back(len(self.sliding) * (len(passed) - len(known)))
        for group in self.sliding:
            self.pool.release([column[group] for column in known])
        for i in passed:
            if i < len(window):
                window[i] = None
        sequence.trimmed = skipped

    def remember(self, sequence: Sequence, tokens: int) -> None:
        """Make the blocks of the first ``tokens`` tokens findable, as vLLM does on scheduling."""
        done = tokens // self.size
        if not self._caching or done <= sequence.cached:
            return
        ends = ((sequence.prompt_tokens - 1) // self.size, sequence.junction // self.size)
        for i in range(sequence.cached, done):
            key = sequence.key(i)
            sequence.full.append(self.pool.cache(self.whole, key))
            if self.sliding:
                kept = self._dense or any(end - self._reach <= i < end for end in ends)
                there = kept and i >= sequence.trimmed
                sequence.window.append(self.pool.cache(self.sliding, key) if there else None)
        sequence.cached = done

    def quiet(self, sequence: Sequence) -> None:
        """Note how long decoding neither allocates, nor fills a block, nor trims."""
        until = sequence.columns * self.size + 1
        if self._caching:
            until = min(until, (sequence.cached + 1) * self.size)
        if self.sliding:
            until = min(until, (sequence.trimmed + 1) * self.size + self.span)
        sequence.quiet_until = until

    def free(self, sequence: Sequence) -> None:
        """Give back all blocks of ``sequence``."""
        known = [column for column in reversed(sequence.window) if column is not None]
        for group in self.sliding:
            self.pool.release([column[group] for column in known])
        for position in range(len(self.whole)):
            self.pool.release([column[position] for column in reversed(sequence.full)])
        cached = len(known) * len(self.sliding) + len(sequence.full) * len(self.whole)
        self.pool.give_back(self.held(sequence) - cached)
        sequence.full, sequence.window = [], []
        sequence.columns = sequence.trimmed = sequence.cached = sequence.quiet_until = 0

    def held(self, sequence: Sequence) -> int:
        """Blocks of ``sequence``, including shared ones."""
        return self.groups * sequence.columns - len(self.sliding) * sequence.trimmed

    def held_by_all(self, sequences: list[Sequence]) -> int:
        """Blocks of all of them, shared ones counted once. Slow: for checks."""
        known = {
            block
            for sequence in sequences
            for columns in (sequence.full, sequence.window)
            for column in columns
            for block in column or ()
        }
        blank = 0
        for sequence in sequences:
            window = sum(column is not None for column in sequence.window)
            blank += self.held(sequence) - window * len(self.sliding)
            blank -= len(sequence.full) * len(self.whole)
        return len(known) + blank

    def _skipped(self, computed: int) -> int:
        """Columns before the window of the token after ``computed`` tokens."""
        return max(0, computed - self.span + 1) // self.size
