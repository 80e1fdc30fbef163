from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.error_reasons import OTHERS, by_type, count_reason, discount_reason
from tests.samples import quick

MESSAGES = st.lists(st.sampled_from([f"reason {letter}" for letter in "abcdefghijkl"]), max_size=40)


def counted(messages: list[str]) -> Counter[str]:
    reasons: Counter[str] = Counter()
    for message in messages:
        count_reason(reasons, "InvalidRow", message)
    return reasons


def test_messages_that_differ_in_numbers_alone_have_one_reason() -> None:
    reasons = counted(["prompt has 4,096 tokens, context 512", "prompt has 17 tokens, context 512"])

    assert reasons == {"InvalidRow\tprompt has … tokens, context …": 2}


def test_a_reason_is_one_line_and_not_long() -> None:
    [key] = counted(["x" * 1000 + "\nsecond line"])

    assert len(key) < 200
    assert "\n" not in key


@quick
@given(MESSAGES)
def test_whatever_the_messages_no_more_than_nine_reasons_are_told_and_all_rows_counted(
    messages: list[str],
) -> None:
    told = by_type(counted(messages)).get("InvalidRow", {})

    assert len(told) <= 9
    assert sum(told.values()) == len(messages)
    if len(set(messages)) > 8:
        assert OTHERS in told


@quick
@given(MESSAGES, st.data())
def test_rows_that_were_counted_can_be_discounted(messages: list[str], data: st.DataObject) -> None:
    reasons = counted(messages)
    gone = data.draw(st.permutations(messages))

    for message in gone:
        discount_reason(reasons, "InvalidRow", message)

    assert not +reasons
