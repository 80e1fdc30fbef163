from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.schedule.lengths import OutputLengths
from tests.samples import quick


def after(*seen: int) -> OutputLengths:
    lengths = OutputLengths()
    for tokens in seen:
        lengths.observe(tokens)
    return lengths


def test_while_little_was_seen_the_limit_is_expected() -> None:
    assert after(*[5] * 31).expected(256) == 256


def test_when_enough_was_seen_it_is_believed() -> None:
    assert after(*[5] * 32).expected(256) == 5


def test_nine_tenths_of_completions_are_no_longer_than_expected() -> None:
    assert after(*range(1, 101)).expected(256) == 90


def test_no_more_than_the_limit_is_expected() -> None:
    assert after(*[200] * 50).expected(10) == 10


def test_a_change_is_noticed() -> None:
    lengths = after(*[5] * 100)
    assert lengths.expected(256) == 5
    for _ in range(4096):
        lengths.observe(99)

    assert lengths.expected(256) == 99


@quick
@given(st.lists(st.integers(1, 500), max_size=100), st.integers(1, 500))
def test_what_is_expected_is_possible(seen: list[int], limit: int) -> None:
    expected = after(*seen).expected(limit)

    assert 1 <= expected <= limit
    assert expected == limit or expected in seen
