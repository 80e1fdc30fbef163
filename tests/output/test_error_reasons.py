from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.input.changes.compare import absolute
from pipeline.output.growing.growing import drop_rows
from pipeline.output.tally import Tally
from pipeline.output.totals import totals
from pipeline.rows.error_reasons import OTHERS, count_reason, discount_reason, reasons_by_type
from tests.support.datasets import finish, job_in, write_input
from tests.support.samples import quick

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
    told = reasons_by_type(counted(messages)).get("InvalidRow", {})

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


@pytest.mark.parametrize("left", [{}, {"InvalidRow\tcolumn 'a' is null": 3}])
def test_a_row_whose_reason_was_not_counted_takes_none_away(left: dict[str, int]) -> None:
    reasons = Counter(left)

    discount_reason(reasons, "InvalidRow", "no text")

    assert reasons == left


def test_of_rows_with_one_reason_some_may_be_counted_among_the_others() -> None:
    """A part of a unit was done again, and failed again for a reason that had been one of many."""
    reasons = Counter({"InvalidRow\tno text": 1, f"InvalidRow\t{OTHERS}": 4})

    for _ in range(3):
        discount_reason(reasons, "InvalidRow", "no text")

    assert +reasons == {f"InvalidRow\t{OTHERS}": 2}


def test_sums_over_very_many_units_tell_few_reasons_and_the_frequent_ones() -> None:
    total = Tally()
    for unit in range(2000):
        reasons = Counter({f"SchemaNotMet\treason {unit} {n}": 1 for n in range(7)})
        reasons["SchemaNotMet\tfrequent"] = 2 if unit > 1000 else 0
        reasons["InvalidRow\trare"] = unit == 7
        total.add(Tally(error_reasons=+reasons))

    told = reasons_by_type(total.error_reasons)
    assert len(total.error_reasons) < 1000
    assert total.error_reasons.total() == 2000 * 7 + 999 * 2 + 1
    assert told["SchemaNotMet"]["frequent"] == 999 * 2
    assert told["InvalidRow"] == {"rare": 1}


def test_rows_that_are_dropped_leave_nothing_in_the_summary(tmp_path: Path) -> None:
    write_input(tmp_path / "rows", 140, 10)
    dataset = finish(job_in(tmp_path), fails=lambda row: row in (3, 145))

    drop_rows(dataset.storage, {absolute(str(tmp_path / "rows/a.parquet")): 0})

    (tmp_path / "rows/a.parquet").unlink()
    other = job_in(tmp_path, output={"path": str(tmp_path / "other")})
    alone = finish(other, fails=lambda row: row == 145)
    kept, wanted = dataset.summary() or {}, alone.summary() or {}
    assert kept["error_examples"] == {"SchemaNotMet": "no schema in row 145"}
    for name in totals(Tally(), graded=False):
        assert kept[name] == wanted[name], name
