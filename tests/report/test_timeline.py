"""What an engine did when, in a few dozen intervals."""

from __future__ import annotations

import pytest

from pipeline.worker.metrics.timeline import Timeline, TimelineInterval, merged, resampled


def steps(count: int, seconds: float = 0.1, start: float = 1000.0) -> list[TimelineInterval]:
    return [
        TimelineInterval(start + i * seconds, seconds, rows=1, kv_use=0.5) for i in range(count)
    ]


def collected(given: list[TimelineInterval]) -> Timeline:
    made = Timeline()
    for step in given:
        made.add(step)
    return made


@pytest.mark.parametrize("count", [1, 10, 1_000, 50_000])
def test_however_many_steps_there_are_a_few_intervals_stay(count: int) -> None:
    assert len(collected(steps(count)).intervals) <= 65


def test_nothing_is_lost_by_merging() -> None:
    intervals = collected(steps(5_000)).intervals

    assert sum(i.rows for i in intervals) == 5_000
    assert sum(i.seconds for i in intervals) == pytest.approx(500)


def test_means_are_weighed_by_time() -> None:
    one = merged(
        [TimelineInterval(0, 1, kv_use=0.2, batch=2), TimelineInterval(1, 3, kv_use=0.6, batch=10)]
    )

    assert (one.kv_use, one.batch) == (pytest.approx(0.5), pytest.approx(8))


def test_engines_are_laid_over_each_other() -> None:
    """Two engines, the second half as long: rows add up, KV use is the mean of those at work."""
    first = [TimelineInterval(0, 10, rows=10, kv_use=0.4, batch=4)]
    second = [TimelineInterval(0, 5, rows=20, kv_use=0.8, batch=6)]
    early, late = resampled([first, second], 2)

    assert (early.rows, late.rows) == (pytest.approx(25), pytest.approx(5))
    assert (early.batch, late.batch) == (pytest.approx(10), pytest.approx(4))
    assert (early.kv_use, late.kv_use) == (pytest.approx(0.6), pytest.approx(0.4))


def test_without_steps_there_are_no_intervals() -> None:
    assert resampled([(), ()], 10) == []
