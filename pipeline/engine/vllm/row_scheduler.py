"""vLLM's scheduler, for several questions of one row: what their prompts have in common is
computed once, to the token.

vLLM's prefix cache finds whole blocks. On a CPU a block has 32 tokens, about as many as a tweet,
and each question would compute most of the row's text again. So questions of a row are taken one
after the other, while other rows run, and each goes on in the blocks of the one before, from the
first token that differs. vLLM knows requests that wait with blocks of their own: those whose blocks
another machine has sent. The next question becomes one of them.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from vllm.v1.core.sched.scheduler import Scheduler

from pipeline.engine.vllm.engine import ROW


class RowScheduler(Scheduler):  # type: ignore[misc]  # vLLM's types are not read
    """``Scheduler`` that takes the requests of one row one after another. For engines whose every
    step is done before the next one is scheduled."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rows: dict[int, deque[Any]] = {}  # requests not ended; a row's first one goes first

    def add_request(self, request: Any) -> None:
        super().add_request(request)
        row = _row_of(request)
        if row is not None and self.kv_cache_manager.enable_caching:
            self._rows.setdefault(row, deque()).append(request)

    def _handle_blocked_waiting_request(self, request: Any) -> bool:
        of_row = self._rows.get(_row_of(request))
        if of_row and of_row[0] is not request:
            return False
        return bool(super()._handle_blocked_waiting_request(request))

    def _free_request_blocks(self, request: Any) -> None:
        if request.is_finished():  # else it is preempted, and comes again
            row = _row_of(request)
            of_row = self._rows.get(row)
            if of_row:
                was_first = of_row[0] is request
                of_row.remove(request)
                if not of_row:
                    del self._rows[row]
                elif was_first:
                    self._hand_over(request, of_row[0])
        super()._free_request_blocks(request)

    def _hand_over(self, request: Any, following: Any) -> None:
        """``following`` goes on in the blocks of ``request``, which has ended."""
        managers = self.kv_cache_manager.coordinator.single_type_managers
        kept = self._kept(request, following)
        needed = sum(
            _whole(following.num_tokens, manager) - _whole(kept, manager) for manager in managers
        )
        pool = self.kv_cache_manager.block_pool
        # whoever waits with blocks keeps others from them: there must be enough for all who do
        if not kept or pool.get_num_free_blocks() < needed * (1 + len(self.kv_holding_waiting)):
            return
        for manager in managers:
            blocks = manager.pop_blocks_for_free(request.request_id)
            held = _whole(kept, manager)
            pool.free_blocks(reversed(blocks[held:]))
            del blocks[held:]
            whole = kept // manager.block_size
            for block in blocks[whole:]:  # it gets other tokens than the cache knows it by
                pool._maybe_evict_cached_block(block)
            manager.req_to_blocks[following.request_id] = blocks
            manager.num_cached_block[following.request_id] = whole
        self.waiting.remove_request(following)
        following.num_computed_tokens = kept
        self.kv_holding_waiting.add_request(following)

    def _kept(self, request: Any, following: Any) -> int:
        """How many tokens of ``request`` ``following`` need not compute; 0 where too many blocks
        are gone."""
        known = request.all_token_ids[: request.num_computed_tokens]
        asked = following.all_token_ids
        most = min(len(known), len(asked) - 1)  # the last token's answer is wanted
        kept = next((i for i in range(most) if known[i] != asked[i]), most)
        for manager in self.kv_cache_manager.coordinator.single_type_managers:
            blocks = manager.req_to_blocks.get(request.request_id, [])
            begun = blocks[kept // manager.block_size :]
            if any(block.ref_cnt > 1 for block in begun):
                kept -= kept % manager.block_size  # others read what would be written anew
        for manager in self.kv_cache_manager.coordinator.single_type_managers:
            blocks = manager.req_to_blocks.get(request.request_id, [])
            first = manager.get_num_skipped_tokens(kept) // manager.block_size
            last = _whole(kept, manager)
            if len(blocks) < last or any(block.is_null for block in blocks[first:last]):
                return 0  # a sliding window has gone past them
        return kept


def _whole(tokens: int, manager: Any) -> int:
    """Blocks of ``tokens``."""
    return int(-(-tokens // manager.block_size))


def _row_of(request: Any) -> Any:
    parameters = request.sampling_params
    return (parameters.extra_args or {}).get(ROW) if parameters else None
