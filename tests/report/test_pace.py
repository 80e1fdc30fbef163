"""How fast a run is just now."""

from __future__ import annotations

from pipeline.report.pace import Pace
from pipeline.worker.coordination.messages import Progress


def test_tokens_of_rows_that_are_not_finished_count_as_they_come() -> None:
    pace = Pace()
    for second in range(11):
        pace.note(float(second), [Progress(generated=500 * second, first_step=1.0)])

    assert (pace.rows, pace.rows_per_second) == (0, 0.0)
    assert pace.tokens_per_second == 500.0


def test_a_finished_rows_tokens_count_once() -> None:
    pace = Pace()
    pace.note(0.0, [Progress(first_step=1.0)])
    done = Progress(rows=1, prompt_tokens=70, completion_tokens=30, generated=30, first_step=1.0)
    pace.note(10.0, [done])

    assert pace.tokens_per_second == 10.0


def test_what_is_done_when_workers_are_first_heard_of_counts_from_before_they_began() -> None:
    pace = Pace()
    assert not pace.note(0.0, [Progress()])
    assert not pace.note(6.0, [Progress()])
    assert pace.note(8.0, [Progress(rows=32, prompt_tokens=640, first_step=1.0)])

    assert (pace.rows_per_second, pace.tokens_per_second) == (16.0, 320.0)
    assert pace.seconds_for(16) == 1.0
