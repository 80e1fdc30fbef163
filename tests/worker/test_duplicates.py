from __future__ import annotations

from pipeline.worker.deduplication import SingleFlight

A, B = b"a", b"b"


def duplicates(memory_bytes: int = 100) -> SingleFlight[str, str]:
    """Rows and results are words here; a result is as large as it is long."""
    return SingleFlight(len, memory_bytes)


def test_the_first_row_of_a_key_is_computed() -> None:
    assert duplicates().first(A, "row")


def test_rows_that_come_while_it_is_computed_wait_for_it() -> None:
    same = duplicates()
    same.first(A, "1")

    assert not same.first(A, "2")
    assert not same.first(A, "3")
    assert same.finished(A, "answer") == ["2", "3"]


def test_another_key_is_another_row() -> None:
    same = duplicates()
    same.first(A, "1")

    assert same.first(B, "2")
    assert same.finished(A, "answer") == []


def test_a_result_is_remembered() -> None:
    same = duplicates()
    same.first(A, "1")
    assert same.known(A) is None
    same.finished(A, "answer")

    assert same.known(A) == "answer"
    assert same.known(B) is None


def test_the_results_used_last_are_kept_within_the_memory() -> None:
    same = duplicates(memory_bytes=10)
    for key in (b"1", b"2"):
        same.first(key, "row")
        same.finished(key, "12345")
    same.known(b"1")
    same.first(b"3", "row")
    same.finished(b"3", "12345")

    assert same.held_bytes == 10
    assert [same.known(key) is not None for key in (b"1", b"2", b"3")] == [True, False, True]


def test_a_result_larger_than_the_memory_is_given_but_not_remembered() -> None:
    same = duplicates(memory_bytes=10)
    same.first(A, "1")
    same.first(A, "2")

    assert same.finished(A, "x" * 11) == ["2"]
    assert same.known(A) is None
    assert same.held_bytes == 0


def test_a_forgotten_key_is_computed_anew() -> None:
    same = duplicates(memory_bytes=0)
    same.first(A, "1")
    same.finished(A, "answer")

    assert same.first(A, "2")


def test_when_the_first_fails_the_next_is_computed_instead() -> None:
    same = duplicates()
    for row in ("1", "2", "3"):
        same.first(A, row)

    assert same.failed(A) == "2"
    assert not same.first(A, "4")
    assert same.finished(A, "answer") == ["3", "4"]


def test_a_failure_that_nobody_waits_for_leaves_nothing_behind() -> None:
    same = duplicates()
    same.first(A, "1")

    assert same.failed(A) is None
    assert same.known(A) is None
    assert same.first(A, "2")
