"""Predictions: start from the roofline, follow what was measured, most of all what is alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.budget.predict import (
    Estimate,
    MeasuredRun,
    RowCost,
    Workload,
    estimate,
    predict,
)
from tests.support.samples import quick


def labels(rows: int = 512, prompt: float = 270, shared: float = 240) -> Workload:
    return Workload("choices", rows, prompt, shared, 1)


def texts(rows: int = 512, completion: float = 128) -> Workload:
    return Workload("text", rows, 200, 0, completion)


def roofline(workload: Workload) -> RowCost:
    """A card that computes 10,000 prompt tokens and writes 1,000 answer tokens a second."""
    return RowCost(workload.new_tokens / 10_000, workload.completion_tokens / 1_000)


def measured(
    workload: Workload, slowdown: float, *, engines: int = 1, ready: float = 20, other: float = 2
) -> MeasuredRun:
    work = roofline(workload).seconds * slowdown * workload.rows / engines
    return MeasuredRun(workload, engines, ready, work, other)


def ask(workload: Workload, *runs: MeasuredRun) -> Estimate:
    return estimate(workload, roofline, runs, ready_seconds=30, other_seconds=3)


def test_nothing_measured_means_what_the_model_says() -> None:
    one = ask(labels())

    assert one.basis == "roofline"
    assert one.cost.seconds == pytest.approx(roofline(labels()).seconds)
    assert (one.ready_seconds, one.other_seconds) == (30, 3)


@given(slowdown=st.floats(0.2, 50), engines=st.integers(1, 8), rows=st.integers(400, 5000))
@quick
def test_the_same_shape_takes_the_time_that_was_measured(
    slowdown: float, engines: int, rows: int
) -> None:
    run = measured(labels(512), slowdown, engines=engines)

    one = ask(labels(rows), run)
    foretold = predict(rows, [(engines, one)])

    assert one.basis == "measured"
    assert foretold.work_seconds == pytest.approx(run.work_seconds * rows / 512)
    assert (foretold.ready_seconds, foretold.other_seconds) == (20, 2)


def test_another_shape_takes_over_how_much_slower_than_the_roofline_it_was() -> None:
    one = ask(texts(), measured(labels(), 4))

    assert one.basis == "scaled"
    assert one.cost.seconds == pytest.approx(4 * roofline(texts()).seconds)


def test_the_run_most_like_the_job_counts_not_the_newest() -> None:
    one = ask(labels(), measured(labels(), 3), measured(texts(), 9))

    assert one.cost.seconds == pytest.approx(3 * roofline(labels()).seconds)


def test_of_several_runs_alike_the_middle_one_counts() -> None:
    one = ask(labels(), *(measured(labels(), s) for s in (3, 3.2, 30)))

    assert one.cost.seconds == pytest.approx(3.2 * roofline(labels()).seconds)
    assert one.runs == 3


@pytest.mark.parametrize("disturbed", [0, 1])
def test_one_run_on_a_busy_machine_changes_nothing_once_there_is_another(disturbed: int) -> None:
    runs = [measured(labels(), 3, ready=20, other=2)]
    runs.insert(disturbed, measured(labels(), 13, ready=90, other=9))
    one = ask(labels(), *runs)

    assert one.cost.seconds == pytest.approx(3 * roofline(labels()).seconds)
    assert (one.ready_seconds, one.other_seconds) == (20, 2)


def test_the_last_few_runs_count() -> None:
    """A machine that has become slower is believed after three runs."""
    runs = [measured(labels(), s) for s in (3, 3, 3, 3, 3, 9, 9, 9)]

    assert ask(labels(), *runs[:7]).slowdown == pytest.approx(3)
    assert ask(labels(), *runs).slowdown == pytest.approx(9)


def test_runs_that_differ_widen_the_bounds() -> None:
    def spread(*slowdowns: float) -> float:
        foretold = predict(512, [(1, ask(labels(), *(measured(labels(), s) for s in slowdowns)))])
        low, high = foretold.bounds
        assert high / foretold.seconds == pytest.approx(foretold.seconds / low)
        return high / foretold.seconds

    assert spread(3, 3, 3.1) == pytest.approx(1.15)
    assert spread(3) == pytest.approx(1.3)  # nobody knows yet
    assert spread(3, 12) == pytest.approx(2)
    assert spread(3, 3, 3, 3, 12) == pytest.approx(4 ** (1 / 5))


def test_runs_without_rows_teach_nothing() -> None:
    assert ask(labels(), measured(labels(0), 1)).basis == "roofline"


def test_phases_add_up() -> None:
    foretold = predict(1000, [(2, ask(texts(), measured(texts(), 2)))])

    assert foretold.seconds == pytest.approx(
        foretold.ready_seconds
        + foretold.prompt_seconds
        + foretold.answer_seconds
        + foretold.other_seconds
    )
    share = roofline(texts()).prompt_seconds / roofline(texts()).seconds
    assert foretold.prompt_seconds == pytest.approx(share * foretold.work_seconds)


def test_a_faster_card_takes_more_of_the_rows() -> None:
    slow = Estimate(RowCost(0, 0.3), 10, 0, "measured", 1)
    fast = Estimate(RowCost(0, 0.1), 20, 0, "measured", 1)

    foretold = predict(400, [(1, slow), (1, fast)])

    assert foretold.work_seconds == pytest.approx(30)  # 100 rows and 300 rows
    assert foretold.ready_seconds == 20


def test_what_is_least_known_says_how_sure_the_whole_is() -> None:
    known = Estimate(RowCost(0, 0.3), 10, 0, "measured", 4)
    guessed = Estimate(RowCost(0, 0.1), 20, 0, "roofline")

    foretold = predict(400, [(1, known), (1, guessed)])

    assert foretold.basis == "roofline"
    low, high = foretold.bounds
    assert low < foretold.seconds < high


def test_no_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="no engine"):
        predict(1, [])


def test_no_rows_need_no_engine_to_be_ready() -> None:
    assert predict(0, [(1, ask(labels()))]).ready_seconds == 0
