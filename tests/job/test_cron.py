"""When runs are due: cron lines, time zones and both changes of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.job.when.cron import Cron

BERLIN = ZoneInfo("Europe/Berlin")


def _next(line: str, after: datetime, number: int, zone: str = "Europe/Berlin") -> list[str]:
    return [f"{t:%m-%d %H:%M %Z}" for t in Cron(line, zone).next_times(after, number)]


def test_a_line_follows_the_clock_on_the_wall() -> None:
    winter, summer = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
    assert _next("0 2 * * *", winter, 1) == ["01-01 02:00 CET"]
    assert _next("0 2 * * *", summer, 1) == ["07-02 02:00 CEST"]


def test_an_hour_that_does_not_exist_is_made_up_for_right_after_it() -> None:
    before = datetime(2026, 3, 28, 12, tzinfo=BERLIN)  # at 2:00 on the 29th it is 3:00
    assert _next("30 2 * * *", before, 2) == ["03-29 03:00 CEST", "03-30 02:30 CEST"]


def test_an_hour_that_comes_twice_counts_once_the_first_time() -> None:
    before = datetime(2026, 10, 24, 12, tzinfo=BERLIN)  # at 3:00 on the 25th it is 2:00 again
    assert _next("30 2 * * *", before, 2) == ["10-25 02:30 CEST", "10-26 02:30 CET"]


def test_in_the_second_of_two_equal_hours_nothing_is_due_again() -> None:
    second = datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=1)
    assert _next("30 2 * * *", second, 1) == ["10-26 02:30 CET"]


def test_a_line_of_every_hour_goes_by_elapsed_time() -> None:
    before = datetime(2026, 10, 25, 1, 30, tzinfo=BERLIN)
    assert _next("0 * * * *", before, 3) == [
        "10-25 02:00 CEST",
        "10-25 02:00 CET",
        "10-25 03:00 CET",
    ]


@given(
    st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 */3 * * *", "15,45 1-4 * * *", "@hourly"]),
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
)
def test_times_ascend_and_asking_again_from_one_gives_the_next(
    line: str, start: datetime, zone: str
) -> None:
    cron = Cron(line, zone)
    times = list(islice(cron.after(start.replace(tzinfo=UTC)), 6))
    assert times == sorted(set(times))
    assert [next(cron.after(t)) for t in times[:-1]] == times[1:]


@pytest.mark.parametrize(
    ("line", "zone", "word"),
    [
        ("0 2 * *", "UTC", "4 fields"),
        ("61 2 * * *", "UTC", "minute"),
        ("0 2 31 2 *", "UTC", "day"),
        ("0 2 * * *", "Mars/Olympus", "Mars/Olympus"),
        ("0 2 * * *", "../../etc/passwd", "timezone"),
        ("", "UTC", "0 fields"),
    ],
)
def test_what_is_no_schedule_is_refused_with_the_reason(line: str, zone: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Cron(line, zone)
