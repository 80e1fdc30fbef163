"""KV blocks, against what vLLM 0.32 itself reports and the published arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.budget.kv_layout import KvLayout
from pipeline.model.geometry import Geometry
from tests.support.samples import GEMMA_27B, GEMMA_270M, quick

GIB = 1 << 30
LAYOUTS = st.builds(
    KvLayout,
    st.sampled_from([GEMMA_270M, GEMMA_27B]),
    block_size=st.sampled_from([16, 32, 64, 128]),
    chunk=st.sampled_from([256, 2048, 8192]),
)


def layout(geometry: Geometry, block_size: int = 16, chunk: int = 2048) -> KvLayout:
    return KvLayout(geometry, block_size, chunk)


class TestAgainstVllm:
    """270M, blocks of 128 tokens, 2 GiB, max_model_len 1024: vLLM prints 5461 and 103.04x."""

    cpu = layout(GEMMA_270M, block_size=128)

    def test_a_pool_has_the_blocks_that_vllm_counts(self) -> None:
        assert self.cpu.num_gpu_blocks(2 * GIB) == 5461

    def test_a_request_is_charged_the_blocks_that_vllm_charges(self) -> None:
        """5461 / 53 = 103.04: a sliding group is charged one block more than its tokens fill,
        since the window need not begin at a block's edge."""
        assert self.cpu.prefill_blocks(1024) == 53

    def test_a_decoding_request_holds_its_window_and_a_block(self) -> None:
        assert self.cpu.blocks(1024) == 8 + 5 * (512 // 128 + 1)


@pytest.mark.parametrize(
    ("geometry", "groups", "layers", "block_kib"),
    [(GEMMA_270M, 6, 3, 48), (GEMMA_27B, 7, 10, 1280)],
)
def test_layers_are_grouped_by_the_number_of_global_ones(
    geometry: Geometry, groups: int, layers: int, block_kib: int
) -> None:
    made = layout(geometry)

    assert (1 + made.sliding_groups, made.layers_per_group) == (groups, layers)
    assert made.block_bytes == block_kib * 1024


@pytest.mark.parametrize(
    ("geometry", "tokens", "mib"),
    [
        (GEMMA_270M, 1024, 10.7),
        (GEMMA_270M, 4096, 19.7),
        (GEMMA_27B, 1024, 560),
        (GEMMA_27B, 4096, 808),
    ],
)
def test_a_request_holds_the_published_mib(geometry: Geometry, tokens: int, mib: float) -> None:
    made = layout(geometry)

    assert made.blocks(tokens) * made.block_bytes / 2**20 == pytest.approx(mib, abs=0.5)


@pytest.mark.parametrize(
    ("geometry", "below", "above"), [(GEMMA_270M, 18, 3), (GEMMA_27B, 560, 80)]
)
def test_a_further_token_costs_the_published_kib(
    geometry: Geometry, below: int, above: int
) -> None:
    """Below the window every group grows, above it the global one alone."""
    made = layout(geometry)

    def kib_per_token(start: int, stop: int) -> float:
        return (made.blocks(stop) - made.blocks(start)) * made.block_bytes / 1024 / (stop - start)

    assert kib_per_token(0, 512) == below
    assert kib_per_token(2048, 4096) == above


def test_fp8_halves_a_block() -> None:
    half = KvLayout(GEMMA_270M, 16, 2048, dtype_bytes=1)

    assert 2 * half.block_bytes == layout(GEMMA_270M).block_bytes


def test_a_model_of_sliding_layers_alone_is_one_group() -> None:
    sliding = Geometry(0, 15, 640, 2048, 4, 1, 256, 512, 262_144, 32_768)

    assert (layout(sliding).layers_per_group, layout(sliding).sliding_groups) == (15, 1)


@quick
@given(LAYOUTS, st.integers(0, 8192), st.integers(0, 8192))
def test_more_tokens_never_need_fewer_blocks(made: KvLayout, one: int, other: int) -> None:
    fewer, more = sorted((one, other))

    assert made.blocks(fewer) <= made.blocks(more)
    assert made.prefill_blocks(fewer) <= made.prefill_blocks(more)


@quick
@given(LAYOUTS, st.integers(1, 8192))
def test_prefill_never_holds_less_than_decoding(made: KvLayout, tokens: int) -> None:
    assert made.prefill_blocks(tokens) >= made.blocks(tokens)


@quick
@given(LAYOUTS, st.integers(1, 8192))
def test_blocks_hold_at_least_the_tokens_that_attention_reads(made: KvLayout, tokens: int) -> None:
    read = tokens + made.sliding_groups * min(tokens, made.geometry.sliding_window)

    assert made.blocks(tokens) * made.block_size >= read


@quick
@given(LAYOUTS, st.integers(1, 64 * GIB))
def test_a_pool_holds_whole_blocks(made: KvLayout, pool: int) -> None:
    blocks = made.num_gpu_blocks(pool)

    assert blocks * made.block_bytes <= pool < (blocks + 1) * made.block_bytes


class TestWithoutTheHybridManager:
    off = KvLayout(GEMMA_27B, 16, 2048, hybrid=False)

    def test_all_layers_are_one_group_and_none_is_padded(self) -> None:
        assert (self.off.full_groups, self.off.sliding_groups) == (1, 0)
        assert self.off.block_bytes == 16 * 62 * 8192

    def test_a_request_holds_every_token_in_every_layer(self) -> None:
        assert self.off.blocks(4096) == self.off.prefill_blocks(4096) == 256

    def test_short_requests_of_27b_take_an_eighth_less_memory(self) -> None:
        on = layout(GEMMA_27B)
        gain = on.blocks(512) * on.block_bytes / (self.off.blocks(512) * self.off.block_bytes)
        assert gain == pytest.approx(1.129, abs=0.001)


class TestRequestsAtOnce:
    made = layout(GEMMA_27B, chunk=4096)

    def test_one_in_prefill_needs_its_charge_and_the_null_block(self) -> None:
        charge = self.made.prefill_blocks(4096)
        assert self.made.requests(charge, 4096) == 0
        assert self.made.requests(charge + 1, 4096) == 1

    def test_the_others_need_what_they_hold_while_decoding(self) -> None:
        charge, holds = self.made.prefill_blocks(4096), self.made.blocks(4096)
        assert self.made.requests(charge + 3 * holds, 4096) == 3
        assert self.made.requests(charge + 3 * holds + 1, 4096) == 4

    def test_whole_blocks_of_a_shared_prefix_are_held_once(self) -> None:
        alone = self.made.requests(4000, 400)
        assert self.made.requests(4000, 400, shared=320) > 3 * alone
        assert self.made.requests(4000, 400, shared=15) == alone


def test_groups_of_nearly_equal_layers_are_padded_rather_than_split() -> None:
    """vLLM: the larger number of layers is the group when it is less than 1.5 of the smaller."""
    near = layout(Geometry(4, 5, 640, 2048, 4, 1, 256, 512, 262_144, 32_768))
    assert (near.layers_per_group, near.full_groups, near.sliding_groups) == (5, 1, 1)


@given(LAYOUTS, st.integers(1, 9000))
def test_a_decoding_sequence_never_holds_more_than_the_formula_says(
    made: KvLayout, tokens: int
) -> None:
    """Its last token's slot is there, its window was trimmed before that was allocated."""
    held = made.held(tokens, tokens - 1)
    assert made.blocks(tokens) - made.sliding_groups <= held <= made.blocks(tokens)


def test_held_blocks_are_what_vllm_keeps() -> None:
    """27B, blocks of 16, window 1024: the token at 2048 attends to 1025..2048, so 64 whole blocks
    (1024 tokens) have passed, and 129 are allocated."""
    made = layout(GEMMA_27B)
    assert made.held(2049, 2048) == 129 + 6 * (129 - 64)
    assert made.held(2048, 2047) == 128 + 6 * (128 - 64)
    assert made.held(1024, 0) == 7 * 64  # a whole prompt, nothing trimmed yet
