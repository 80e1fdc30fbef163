from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipeline.output.commit.records import CommitRecord, decode
from pipeline.output.tally import Tally, length_bucket
from tests.support.samples import quick

NUMBERS = st.integers(0, 1000)
COUNTS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(1, 9)).map(Counter)
LENGTHS = st.dictionaries(st.sampled_from([1, 2, 64]), st.integers(1, 9)).map(Counter)
TALLIES = st.builds(
    Tally,
    rows=NUMBERS,
    failed=NUMBERS,
    duplicates=NUMBERS,
    prompt_tokens=NUMBERS,
    completion_tokens=NUMBERS,
    errors=COUNTS,
    error_examples=st.dictionaries(st.sampled_from(["a", "b"]), st.text(max_size=3)),
    error_reasons=COUNTS,
    labels=COUNTS,
    confusion=COUNTS,
    finish_reasons=COUNTS,
    prompt_lengths=LENGTHS,
    completion_lengths=LENGTHS,
    longest_completion=NUMBERS,
)


def total_of(tallies: list[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return total


@quick
@given(st.lists(TALLIES, max_size=4), st.lists(TALLIES, max_size=4))
def test_a_sum_of_sums_is_the_sum(some: list[Tally], others: list[Tally]) -> None:
    parts = total_of([total_of(some), total_of(others)])

    assert parts == total_of(some + others)


@quick
@given(TALLIES)
def test_a_tally_survives_the_file_of_its_record(tally: Tally) -> None:
    record = CommitRecord("u", "a", "00000-000000000000.parquet", 5, "s", tally)
    assert decode(record.encode()) == record


@quick
@given(TALLIES, TALLIES)
def test_adding_leaves_the_added_one_as_it_is(mine: Tally, other: Tally) -> None:
    before = other.as_json()
    mine.add(other)
    mine.labels["a"] += 1

    assert other.as_json() == before


def test_the_first_example_of_an_error_stays() -> None:
    total = total_of([Tally(error_examples={"a": "one"}), Tally(error_examples={"a": "two"})])

    assert total.error_examples == {"a": "one"}


@quick
@given(st.integers(1, 10**6))
def test_a_length_falls_into_the_least_power_of_two_that_holds_it(tokens: int) -> None:
    bucket = length_bucket(tokens)

    assert bucket & (bucket - 1) == 0
    assert bucket // 2 < tokens <= bucket


def test_no_tokens_fall_into_the_first_bucket() -> None:
    assert length_bucket(0) == 1
