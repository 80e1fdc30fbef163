"""What the model of vLLM's KV cache remembers, shares, evicts and gives back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.budget.kv_layout import KvLayout
from pipeline.simulate.vllm_model.block_pool import BlockPool
from pipeline.simulate.vllm_model.kv_cache import Sequence
from pipeline.simulate.vllm_model.scheduler import EngineModel
from tests.support.samples import GEMMA_27B, quick

SIZE = 16
SMALL = KvLayout(replace(GEMMA_27B, sliding_window=64), SIZE, 256)
BOTH = range(2)


def engine(blocks: int = 2000, layout: KvLayout = SMALL, **changes: bool) -> EngineModel:
    return EngineModel(layout, blocks, max_num_seqs=8, max_num_batched_tokens=256, **changes)


def generate(model: EngineModel, sequence: Sequence, tokens: int) -> None:
    model.add(sequence)
    while sequence.generated < tokens:
        model.step()


class TestPool:
    def test_blank_blocks_go_before_cached_ones(self) -> None:
        pool = BlockPool(3, 1)
        pool.take(1)
        (block,) = pool.cache(range(1), "a")
        pool.release([block])
        pool.take(2)
        assert pool.find(range(1), "a") == (block,)
        pool.take(1)
        assert pool.find(range(1), "a") is None

    def test_the_least_recently_used_goes_first(self) -> None:
        pool = BlockPool(2, 1)
        pool.take(2)
        first, second = (pool.cache(range(1), key) for key in "ab")
        pool.release(first)
        pool.release(second)
        pool.hold(first)
        pool.release(first)
        pool.take(1)
        assert pool.find(range(1), "b") is None
        assert pool.find(range(1), "a") == first

    def test_of_equal_blocks_the_first_is_found_while_it_is_there(self) -> None:
        pool = BlockPool(2, 1)
        pool.take(2)
        first, second = pool.cache(range(1), "a"), pool.cache(range(1), "a")
        assert pool.find(range(1), "a") == first
        pool.release(first)
        pool.take(1)
        assert pool.find(range(1), "a") == second

    def test_a_key_is_found_only_where_all_groups_have_it(self) -> None:
        pool = BlockPool(2, 2)
        pool.take(2)
        column = pool.cache(BOTH, "a")
        pool.release([column[0]])
        pool.take(1)
        assert pool.find(BOTH, "a") is None
        assert pool.find(range(1, 2), "a") == (column[1],)


class TestHits:
    def test_a_second_prompt_reuses_all_but_its_last_block(self) -> None:
        model = engine()
        first = Sequence(1, 64, (1, 2, 3, 4))
        generate(model, first, 1)
        model.finish(1)
        again = Sequence(2, 64, (1, 2, 3, 4))
        model.add(again)
        ((_, new),) = model.step().scheduled
        assert new == SIZE  # the last token must be computed, so its block is

    def test_a_request_may_be_kept_from_reading_the_cache(self) -> None:
        model = engine()
        generate(model, Sequence(1, 64, (1, 2, 3, 4)), 1)
        model.add(Sequence(2, 64, (1, 2, 3, 4), reads_cache=False))
        assert model.step().scheduled[-1][1] == 64

    @pytest.mark.parametrize(
        ("changes", "hybrid", "again"),
        [
            # by default sliding groups cache what lies before the prompt's last block only: all
            # that was generated is computed again, and of the prompt what is beyond the window
            ({}, True, 200 - 96),
            ({"dense_retention": True}, True, 200 - 192),
            ({}, False, 200 - 192),
            ({"prefix_caching": False}, True, 200),
        ],
    )
    def test_a_preempted_request_finds_what_its_groups_cached(
        self, changes: dict[str, bool], hybrid: bool, again: int
    ) -> None:
        model = engine(layout=replace(SMALL, hybrid=hybrid), **changes)
        sequence = Sequence(1, 100)
        generate(model, sequence, 101)
        assert sequence.computed == 200
        model._preempt(model.running.pop())
        model.step()
        assert model.recomputed_tokens == again
        assert model.preemptions == 1

    def test_a_second_preemption_finds_what_the_first_made_it_keep(self) -> None:
        """The full groups had more than the sliding ones: that place is kept from then on."""
        model = engine()
        sequence = Sequence(1, 100)
        generate(model, sequence, 101)
        for _ in range(2):
            model._preempt(model.running.pop())
            model.step()
        assert model.recomputed_tokens == (200 - 96) + (201 - 192)


@given(
    st.lists(
        st.tuples(st.integers(1, 150), st.integers(1, 60), st.integers(0, 3)),
        min_size=1,
        max_size=25,
    ),
    st.integers(7 * 16, 600),
    st.lists(st.integers(0, 40), max_size=5),
    st.booleans(),
)
@quick
def test_free_and_held_blocks_are_the_pool_after_every_event(
    requests: list[tuple[int, int, int]], blocks: int, aborted: list[int], dense: bool
) -> None:
    model = engine(blocks, dense_retention=dense)
    lengths = {}
    for i, (prompt, output, group) in enumerate(requests):
        if model.peak(prompt + output) <= model.pool:
            keys = tuple(hash((group, j)) for j in range(prompt // SIZE if group else 0))
            model.add(Sequence(i, prompt, keys))
            lengths[i] = output
    steps = 0
    while model.running or model.waiting:
        for sequence in model.step().sampled:
            if sequence.generated == lengths[sequence.id]:
                model.finish(sequence.id)
        model.check()
        steps += 1
        for i in aborted:
            if steps == i and i in {s.id for s in (*model.running, *model.waiting)}:
                model.abort(i)
                model.check()
        assert steps < 5000
    assert model.free == model.pool
