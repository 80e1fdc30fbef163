"""Progress in plain lines: the first at once, then few, with an honest time left."""

from __future__ import annotations

import pytest

from pipeline.model.store.steps import LineSteps, gigabytes, progress_text

GB = 10**9


def test_a_step_is_said_at_once_and_its_progress_every_five_seconds() -> None:
    lines: list[str] = []
    times = iter([0.0, 1.0, 4.9, 5.0, 9.0, 10.5])
    steps = LineSteps(lines.append, lambda: next(times))

    steps.say("fetching")
    for done in range(6):
        steps.progress(done * GB, 10 * GB)
    assert lines == [
        "fetching",
        "3.0 of 10.0 GB (30 %), 600 MB/s, 12 s left",
        "5.0 of 10.0 GB (50 %), 364 MB/s, 14 s left",
    ]


def test_what_was_there_before_does_not_count_as_speed() -> None:
    """A download that goes on at 9 GB has not just fetched 9 GB."""
    lines: list[str] = []
    times = iter([0.0, 10.0])
    steps = LineSteps(lines.append, lambda: next(times))

    steps.progress(9 * GB, 10 * GB)
    steps.progress(int(9.1 * GB), 10 * GB)
    assert lines == ["9.1 of 10.0 GB (91 %), 10 MB/s, 1 min 30 s left"]


@pytest.mark.parametrize(
    ("done", "total", "rate", "text"),
    [
        (0, 0, 0.0, "0 MB"),
        (5_000_000, 0, 1e6, "5 MB, 1 MB/s"),
        (0, 20_000_000, 0.0, "0 of 20 MB (0 %)"),
        (20_000_000, 20_000_000, 1e6, "20 of 20 MB (100 %), 1 MB/s"),
        (GB // 2, 4 * GB, 0.0, "0.5 of 4.0 GB (12 %)"),
        (GB, 1000 * GB, 1e8, "1.0 of 1000.0 GB (0 %), 100 MB/s, 2 h 46 min left"),
    ],
)
def test_progress_reads_well(done: int, total: int, rate: float, text: str) -> None:
    assert progress_text(done, total, rate) == text


def test_sizes_are_given_as_hubs_give_them() -> None:
    assert [gigabytes(n) for n in (806_058_272, 17_200_000_000)] == ["806 MB", "17.2 GB"]
