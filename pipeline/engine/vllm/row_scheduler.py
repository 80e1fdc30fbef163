"""vLLM's scheduler, with a prefix cache that is exact to the token.

vLLM's own cache finds whole blocks. On a CPU a block has 32 tokens, about as many as a tweet: so
the last tokens of the instructions that all rows share would be computed again for each row, and
most of the text of a row with several questions again for each question.

vLLM can begin a request with a copy of a block whose first tokens only are its own, for models
whose state it keeps in the middle of blocks. Here this is done with blocks of requests that have
ended. Others may still use those blocks: what is overwritten meanwhile is forgotten. And the
questions of a row are taken one after the other, while other rows run, so that each finds the one
before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vllm.v1.core.sched.scheduler import Scheduler

from pipeline.engine.vllm.engine import ROW
from pipeline.rows.workload import common_prefix

_Key = tuple[int | None, int]  # a row, or None for all of them; the block's first token


@dataclass(frozen=True)
class _Begun:
    """The block of a request that has ended in which others are expected to differ from it.

    ``tokens``: of the request up to the block's end. ``blocks``: one of each group.
    """

    tokens: Sequence[int]
    blocks: Sequence[Any]


class RowScheduler(Scheduler):  # type: ignore[misc]  # vLLM's types are not read
    """For engines that finish every step before the next one is scheduled."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rows: dict[int, deque[Any]] = {}  # unfinished requests; a row's first one goes first
        self._begun: dict[_Key, _Begun] = {}
        self._last: Sequence[int] = ()  # tokens of the request that ended last
        manager = self.kv_cache_manager
        sizes = {group.block_size for group in manager.coordinator.single_type_managers}
        self._exact = manager.enable_caching and sizes == {self.block_size}

    def add_request(self, request: Any) -> None:
        super().add_request(request)
        row = _row_of(request)
        if row is not None and self._is_cached(request):
            self._rows.setdefault(row, deque()).append(request)

    def _handle_blocked_waiting_request(self, request: Any) -> bool:
        of_row = self._rows.get(_row_of(request))
        if of_row and of_row[0] is not request and self._is_cached(request):
            return False
        return bool(super()._handle_blocked_waiting_request(request))

    def _get_local_prefix_cache_hit(self, request: Any) -> Any:
        blocks, found, boundary, diverged = super()._get_local_prefix_cache_hit(request)
        if not self._is_cached(request):
            return blocks, found, boundary, diverged
        for row in (_row_of(request), None):
            begun = self._begun.get((row, found))
            if begun is None:
                continue
            asked = request.all_token_ids[:-1]  # the last token must be computed
            common = common_prefix(begun.tokens, asked)
            if found < common < found + self.block_size:
                groups = zip(blocks.blocks, begun.blocks, strict=True)
                longer = tuple([*whole, block] for whole, block in groups)
                blocks = self.kv_cache_manager.create_kv_cache_blocks(longer)
                return blocks, common, boundary, diverged
        return blocks, found, boundary, diverged

    def _free_request_blocks(self, request: Any) -> None:
        held: Sequence[Any] = ()
        if request.is_finished() and self._is_cached(request):
            held = self._remember(request)
        super()._free_request_blocks(request)
        self.kv_cache_manager.block_pool.unpin_blocks(held, self._forget)

    def _is_cached(self, request: Any) -> bool:
        """Whether what ``request`` computes depends on its tokens only, so that it can be shared
        with others that have the same ones."""
        of_more = request.mm_features or request.lora_request or request.cache_salt
        lookup = self.kv_cache_manager.prefix_cache_lookup_enabled(request)
        return bool(self._exact and lookup and not of_more)

    def _remember(self, request: Any) -> Sequence[Any]:
        """Keep the blocks of ``request``, which has ended, in which the next one differs. Each is
        held once more."""
        computed = request.all_token_ids[: request.num_computed_tokens]
        row = _row_of(request)
        of_row = self._rows.get(row)
        other = None
        if of_row:
            of_row.remove(request)
            if of_row:
                other = of_row[0].all_token_ids
            else:
                del self._rows[row]
                for key in [key for key in self._begun if key[0] == row]:
                    del self._begun[key]
        if other is None:  # the next one is of another row
            row, other, self._last = None, self._last, computed
        common = common_prefix(computed, other)
        place = common // self.block_size
        groups = self.kv_cache_manager.coordinator.get_blocks(request.request_id)
        if not common % self.block_size or any(len(g) <= place or g[place].is_null for g in groups):
            return ()
        begun = _Begun(
            computed[: (place + 1) * self.block_size], [group[place] for group in groups]
        )
        self._begun[row, place * self.block_size] = begun
        self.kv_cache_manager.block_pool.touch(begun.blocks)
        return begun.blocks

    def _forget(self, block: Any) -> None:
        """``block`` is about to be overwritten."""
        gone = [key for key, begun in self._begun.items() if block in begun.blocks]
        for key in gone:
            del self._begun[key]


def _row_of(request: Any) -> Any:
    parameters = request.sampling_params
    return (parameters.extra_args or {}).get(ROW) if parameters else None
