from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.admission.demand import block_keys
from pipeline.admission.window import WaitingRow, Window
from tests.support.samples import quick

BLOCK = 4


def row(number: int, prompt: int = 10, output: int = 10, prefix: str = "") -> WaitingRow:
    """A row whose prompt begins with the letters of ``prefix``, a block of tokens each."""
    ids = [ord(c) for c in prefix for _ in range(BLOCK)] + [1000 + number] * BLOCK
    keys = block_keys(ids, BLOCK) if prefix else ()
    return WaitingRow(number, max(prompt, len(ids)) if prefix else prompt, output, 1024, keys)


def filled(*rows: WaitingRow, max_passed: int = 512, max_fills: int = 4) -> Window:
    window = Window(BLOCK, max_passed=max_passed, max_fills=max_fills)
    for one in rows:
        window.add(one)
    return window


def anything(_: WaitingRow) -> bool:
    return True


def order(window: Window, fits: Callable[[WaitingRow], bool] = anything, **state: int) -> list[int]:
    """Ids in the order of choice, until there is none."""
    chosen = []
    while (one := window.choose(fits, **state)) is not None:
        chosen.append(one.id)
    return chosen


class TestNothingSpecial:
    def test_an_empty_window_has_no_choice(self) -> None:
        assert Window(BLOCK).choose(anything) is None

    def test_equal_rows_go_in_the_order_of_their_arrival(self) -> None:
        assert order(filled(*(row(n) for n in range(40)))) == list(range(40))

    def test_a_removed_row_is_not_chosen(self) -> None:
        window = filled(row(0), row(1), row(2))
        assert window.remove(1).id == 1

        assert len(window) == 2
        assert order(window) == [0, 2]

    def test_none_is_taken_when_none_fits(self) -> None:
        window = filled(row(0), row(1, prompt=5))

        assert window.choose(lambda _: False) is None
        assert len(window) == 2


class TestPrefixes:
    def test_rows_that_share_a_prefix_go_together(self) -> None:
        window = filled(*(row(n, prefix="ab"[n % 2]) for n in range(8)))
        assert order(window, running=1) == [0, 2, 4, 6, 1, 3, 5, 7]

    def test_the_longest_shared_prefix_goes_first(self) -> None:
        window = filled(row(0, prefix="abcd"), row(1, prefix="abx"), row(2, prefix="abcy"))
        assert order(window, running=1) == [0, 2, 1]

    def test_a_row_that_arrives_later_joins_what_runs(self) -> None:
        window = filled(row(0, prefix="a"), row(1), row(2))
        assert window.choose(anything, running=0) is not None
        assert window.choose(anything, running=1) is not None
        window.add(row(3, prefix="a"))

        assert order(window, running=2) == [3, 2]

    def test_what_no_longer_runs_attracts_nobody(self) -> None:
        window = filled(row(0, prefix="a"), row(1, prefix="b"), row(2), row(3, prefix="a"))
        window.remove(3)
        window.choose(anything)
        window.choose(anything, running=0)
        window.add(row(4, prefix="a"))

        assert order(window, running=0) == [2, 4]

    def test_less_than_a_block_is_not_shared(self) -> None:
        a, b, c = ([1, 1, 1, n] for n in range(3))
        rows = [WaitingRow(n, 4, 1, 1, block_keys(i, BLOCK)) for n, i in enumerate((a, b, c))]
        window = filled(*rows)
        window.choose(anything)

        assert [r.shared_blocks for r in rows] == [0, 0, 0]

    def test_shared_blocks_are_those_in_common_with_what_was_admitted(self) -> None:
        rows = [row(0, prefix="abc"), row(1, prefix="abx"), row(2, prefix="b")]
        window = filled(*rows)
        window.choose(anything, running=3)

        assert [r.shared_blocks for r in rows[1:]] == [2, 0]

    def test_instructions_that_all_share_leave_the_blend_as_it_is(self) -> None:
        sizes = [(900, 10) if n < 8 else (80, 100) for n in range(16)]
        alike = filled(*(row(n, *size, prefix="h") for n, size in enumerate(sizes)))
        heavy = [n < 8 for n in order(alike, running=4)]

        for start in range(0, 16, 4):
            assert 1 <= sum(heavy[start : start + 4]) <= 3

    def test_prefixes_are_found_among_many_rows(self) -> None:
        prefixes = ["".join(p) for p in ("ab", "ac", "b", "cde", "cdf")]
        window = filled(*(row(n, prefix=prefixes[n % 5]) for n in range(50)))
        chosen = [prefixes[n % 5] for n in order(window, running=8)]

        changes = sum(a != b for a, b in pairwise(chosen))
        assert changes == 4


class TestGrouped:
    """Whether a wide window would find more rows that go together."""

    def test_rows_that_have_nothing_in_common_are_not(self) -> None:
        assert filled(*(row(n) for n in range(9)), *(row(n) for n in range(9, 20))).grouped == 0

    def test_nor_are_rows_that_all_have_the_same_in_common(self) -> None:
        assert filled(*(row(n, prefix="ab") for n in range(200))).grouped == 0

    def test_groups_are(self) -> None:
        rows = [row(n, prefix="h" + "abcd"[n % 4]) for n in range(200)]
        assert filled(*rows).grouped > 0.9

    def test_a_few_groups_among_many_rows_are_noticed(self) -> None:
        singles = [f"h{chr(200 + n)}" for n in range(200)]
        rows = [row(n, prefix="hx" if n % 10 == 0 else singles[n]) for n in range(200)]

        assert 0.02 < filled(*rows).grouped < 0.3


class TestBlend:
    def test_prefill_heavy_and_decode_heavy_rows_alternate(self) -> None:
        window = filled(*(row(n, *((900, 10) if n < 8 else (10, 100))) for n in range(16)))
        heavy = [n < 8 for n in order(window)]

        for start in range(0, 16, 4):
            assert sum(heavy[start : start + 4]) == 2

    def test_only_the_oldest_few_are_considered(self) -> None:
        window = filled(*(row(n) for n in range(100)), row(100, prompt=11))
        assert order(window)[0] < 16

    def test_rows_that_write_nothing_are_chosen_too(self) -> None:
        assert sorted(order(filled(*(row(n, output=0) for n in range(5))))) == list(range(5))


class TestGaps:
    def test_the_largest_that_fits_fills_the_gap(self) -> None:
        window = filled(row(0, prompt=100), row(1, prompt=50), row(2, prompt=20), row(3, prompt=9))
        chosen = window.choose(lambda c: c.prompt_tokens <= 30)

        assert chosen is not None
        assert chosen.id == 2

    def test_only_the_oldest_few_fill_gaps(self) -> None:
        """Else it would be an order by length."""
        window = filled(*(row(n, prompt=100) for n in range(30)), row(30, prompt=9))
        assert window.choose(lambda c: c.prompt_tokens <= 30) is None

    def test_gaps_are_filled_a_few_times_and_then_kept(self) -> None:
        window = filled(*(row(n, prompt=9 if n % 2 else 100) for n in range(16)), max_fills=3)

        assert len(order(window, lambda c: c.prompt_tokens < 50)) == 3
        assert window.choose(anything) is not None

    def test_for_a_row_that_needs_an_emptied_cache_they_are_filled_as_long_as_anything_fits(
        self,
    ) -> None:
        rows = [row(n, prompt=9 if n % 2 else 100) for n in range(16)]
        for one in rows[::2]:
            one.cache_share = 0.4
        window = filled(*rows, max_fills=3)

        assert sorted(order(window, lambda c: c.prompt_tokens < 50)) == list(range(1, 16, 2))

    @pytest.mark.parametrize("limit", [0, 505, 508, 511])
    def test_few_rows_are_tried(self, limit: int) -> None:
        tried = []

        def fits(one: WaitingRow) -> bool:
            tried.append(one.id)
            return one.prompt_tokens <= limit

        filled(*(row(n, prompt=512 - n) for n in range(500))).choose(fits)
        assert len(tried) <= 6


class TestEnding:
    def test_of_the_last_rows_those_that_are_much_longer_go_first(self) -> None:
        window = filled(*(row(n, output=500 + n if n in (3, 6) else 1) for n in range(16)))
        assert order(window, running=16, ending=True)[:2] == [6, 3]

    def test_rows_that_are_a_little_longer_do_not(self) -> None:
        window = filled(*(row(n, output=100 + n) for n in range(16)))
        assert order(window, running=16, ending=True, roomy=True) == list(range(16))

    def test_while_many_wait_none_does(self) -> None:
        window = filled(*(row(n, output=500 if n == 190 else 1) for n in range(200)))
        chosen = window.choose(anything, running=8, ending=True)

        assert chosen is not None
        assert chosen.id < 16


class TestRoomy:
    """As long as the cache has room for whatever comes."""

    def test_rows_go_in_their_order(self) -> None:
        window = filled(
            *(row(n, prompt=1 + 37 * n % 100, output=1 + 61 * n % 90) for n in range(64))
        )
        assert order(window, running=8, roomy=True) == list(range(64))

    def test_a_prefix_that_is_always_there_changes_nothing(self) -> None:
        window = filled(*(row(n, prompt=40, prefix="ab" if n % 2 else "") for n in range(64)))
        assert order(window, running=8, roomy=True) == list(range(64))

    def test_rows_go_by_prefix_where_it_would_be_computed_again_and_again(self) -> None:
        window = filled(
            *(row(n, prompt=40, prefix="a" + "bcdefghijklmnopq"[n % 16]) for n in range(160))
        )
        groups = [n % 16 for n in order(window, running=4, roomy=True)]
        computed = sum(group not in groups[max(0, n - 5) : n] for n, group in enumerate(groups))
        assert computed < 40


@st.composite
def _rows(draw: st.DrawFn) -> list[WaitingRow]:
    prefixes = st.sampled_from(["", "a", "ab", "abc", "abd", "b", "bcde"])
    sizes = st.tuples(st.integers(1, 2000), st.integers(0, 500), prefixes)
    return [row(n, *size) for n, size in enumerate(draw(st.lists(sizes, max_size=60)))]


@quick
@given(
    rows=_rows(),
    max_passed=st.integers(0, 20),
    max_fills=st.integers(0, 4),
    seed=st.integers(0, 1 << 16),
)
def test_every_row_is_chosen_once_and_none_is_passed_over_too_often(
    rows: list[WaitingRow], max_passed: int, max_fills: int, seed: int
) -> None:
    """In whatever order rows come, are chosen and are refused."""
    dice = random.Random(seed)
    window = Window(BLOCK, max_passed=max_passed, max_fills=max_fills)
    waiting, coming = [], list(rows)
    passed: dict[int, int] = {}
    chosen: list[int] = []
    while coming or waiting:
        if coming and (not waiting or dice.random() < 0.6):
            window.add(coming[0])
            waiting.append(coming[0].id)
            passed[coming.pop(0).id] = 0
            continue
        room = dice.choice([0, 500, 5000])
        one = window.choose(
            lambda c, room=room: c.prompt_tokens <= room,
            running=dice.randrange(30),
            ending=not coming,
        )
        if one is None:
            assert room < 5000
            continue
        assert one.prompt_tokens <= room
        chosen.append(one.id)
        for earlier in waiting[: waiting.index(one.id)]:
            passed[earlier] += 1
        waiting.remove(one.id)
        assert len(window) == len(waiting)

    assert sorted(chosen) == [r.id for r in rows]
    assert max(passed.values(), default=0) <= max_passed
