"""vLLM's pool of KV-cache blocks, as far as it decides what fits and what is still cached. Pure.

Modelled on vLLM 0.32 ``v1/core/block_pool.py``. A free block is either blank (its content is
useless) or cached (the keys of its tokens are known, so a later request may read it). vLLM hands
out blank ones first, the most recently freed before all others, then cached ones, the least
recently used first. Blank blocks are all equal, so here they are a number; only cached ones are
objects.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable

Column = tuple["Block", ...]
"""Blocks of the same tokens, one in each group of a kind."""


class Block:
    """A cached block: which tokens in which group, and how many sequences hold it."""

    __slots__ = ("group", "key", "users")

    def __init__(self, group: int, key: Hashable) -> None:
        self.group = group
        self.key = key
        self.users = 1


class BlockPool:
    """``blocks``: usable ones (without vLLM's null block), for ``groups`` KV-cache groups."""

    def __init__(self, blocks: int, groups: int) -> None:
        self.blocks = blocks
        self._blank = blocks
        self._idle: OrderedDict[Block, None] = OrderedDict()  # cached, not held, oldest first
        self._cached: list[dict[Hashable, Block | list[Block]]] = [{} for _ in range(groups)]

    @property
    def free(self) -> int:
        """Blocks that no sequence holds."""
        return self._blank + len(self._idle)

    def take(self, count: int) -> None:
        """Hand out ``count`` blocks; evicts cached ones when no blank ones are left."""
        evicted = count - self._blank
        if evicted <= 0:
            self._blank -= count
            return
        self._blank = 0
        for _ in range(evicted):
            block, _nothing = self._idle.popitem(last=False)
            self._forget(block)

    def give_back(self, count: int) -> None:
        """Return ``count`` blocks that no request can find again."""
        self._blank += count

    def cache(self, groups: range, key: Hashable) -> Column:
        """Make blocks in use findable, one in each group; equal ones may exist already."""
        column = []
        for group in groups:
            block = Block(group, key)
            there = self._cached[group].setdefault(key, block)
            if there is not block:
                if isinstance(there, list):
                    there.append(block)
                else:
                    self._cached[group][key] = [there, block]
            column.append(block)
        return tuple(column)

    def find(self, groups: range, key: Hashable) -> Column | None:
        """The blocks of ``key`` in all ``groups``; of equal ones, the one cached first."""
        column = []
        for group in groups:
            there = self._cached[group].get(key)
            if there is None:
                return None
            column.append(there[0] if isinstance(there, list) else there)
        return tuple(column)

    def hold(self, column: Column) -> None:
        """One more sequence reads these blocks."""
        for block in column:
            if not block.users:
                del self._idle[block]
            block.users += 1

    def release(self, blocks: Iterable[Block]) -> None:
        """One sequence fewer reads them; once none does, they are evicted in this order."""
        for block in blocks:
            block.users -= 1
            if not block.users:
                self._idle[block] = None

    def _forget(self, block: Block) -> None:
        cached = self._cached[block.group]
        there = cached[block.key]
        if isinstance(there, list):
            there.remove(block)
            if not there:
                del cached[block.key]
        else:
            del cached[block.key]
