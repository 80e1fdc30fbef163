"""In which hours of the day a job may use the cards."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline import UsageError, load_job
from pipeline.job.when.hours import Hours, parse_hours
from tests.support.samples import job

BERLIN = "Europe/Berlin"  # forward at 01:00 UTC on 29 March 2026, back at 01:00 UTC on 25 October


def at(text: str) -> datetime:
    """A time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def changes(hours: Hours, begin: datetime, number: int) -> list[str]:
    found = []
    moment: datetime | None = begin
    for _ in range(number):
        assert moment is not None
        moment = hours.next_change(moment)
        found.append(f"{moment:%d %H:%M}" if moment else "never")
    return found


@pytest.mark.parametrize(
    ("moment", "expected"),
    [("12:59", False), ("13:00", True), ("16:59", True), ("17:00", False), ("00:00", False)],
)
def test_a_window_holds_its_first_minute_and_not_its_last(moment: str, expected: bool) -> None:
    assert parse_hours("13:00-17:00", "UTC").open(at(f"2026-06-01T{moment}")) is expected


@pytest.mark.parametrize(
    ("moment", "expected"),
    [("22:59", False), ("23:00", True), ("00:00", True), ("06:59", True), ("07:00", False)],
)
def test_a_window_may_last_over_midnight(moment: str, expected: bool) -> None:
    assert parse_hours("23:00-07:00", "UTC").open(at(f"2026-06-01T{moment}")) is expected


def test_there_may_be_several_windows() -> None:
    hours = parse_hours("23:00-07:00, 12:00-13:00", "UTC")

    assert changes(hours, at("2026-06-01T10:00"), 5) == [
        "01 12:00", "01 13:00", "01 23:00", "02 07:00", "02 12:00",
    ]  # fmt: skip


def test_the_clocks_are_those_of_the_time_zone() -> None:
    hours = parse_hours("23:00-07:00", BERLIN)

    assert changes(hours, at("2026-06-01T12:00"), 2) == ["01 21:00", "02 05:00"]


def test_a_window_may_end_at_midnight() -> None:
    hours = parse_hours("20:00-24:00", "UTC")

    assert changes(hours, at("2026-06-01T12:00"), 3) == ["01 20:00", "02 00:00", "02 20:00"]


def test_windows_that_meet_are_one() -> None:
    hours = parse_hours("20:00-22:00, 22:00-23:00", "UTC")

    assert changes(hours, at("2026-06-01T12:00"), 2) == ["01 20:00", "01 23:00"]


def test_windows_that_fill_the_day_never_end() -> None:
    assert (
        parse_hours("00:00-12:00, 12:00-24:00", "UTC").next_change(at("2026-06-01T12:00")) is None
    )


def test_the_night_in_which_an_hour_is_left_out_is_shorter() -> None:
    hours = parse_hours("23:00-07:00", BERLIN)

    assert changes(hours, at("2026-03-28T12:00"), 2) == ["28 22:00", "29 05:00"]


def test_the_night_in_which_an_hour_comes_twice_is_longer() -> None:
    hours = parse_hours("23:00-07:00", BERLIN)

    assert changes(hours, at("2026-10-24T12:00"), 2) == ["24 21:00", "25 06:00"]


def test_a_window_that_begins_in_the_hour_that_is_left_out_begins_after_it() -> None:
    hours = parse_hours("02:30-04:00", BERLIN)

    assert changes(hours, at("2026-03-28T12:00"), 2) == ["29 01:00", "29 02:00"]


def test_a_window_in_the_hour_that_is_left_out_does_not_open() -> None:
    hours = parse_hours("02:15-02:45", BERLIN)

    assert changes(hours, at("2026-03-28T12:00"), 1) == ["30 00:15"]


def test_a_window_in_the_hour_that_comes_twice_opens_twice() -> None:
    hours = parse_hours("02:15-02:45", BERLIN)

    assert changes(hours, at("2026-10-24T12:00"), 4) == [
        "25 00:15", "25 00:45", "25 01:15", "25 01:45",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["23:00-07:00", "02:30-03:30, 02:40-12:00", "00:00-00:01"])
@pytest.mark.parametrize("day", ["2026-03-28T12:00", "2026-10-24T12:00", "2026-06-01T12:00"])
def test_between_two_changes_nothing_changes(text: str, day: str) -> None:
    hours = parse_hours(text, BERLIN)
    moments = [at(day)]
    for _ in range(6):
        change = hours.next_change(moments[-1])
        assert change is not None
        moments.append(change)

    for one, other in pairwise(moments):
        assert hours.open(one) != hours.open(other)
        assert hours.open(one + (other - one) * 0.999) == hours.open(one)


def test_without_a_time_zone_the_clocks_are_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert changes(parse_hours("23:00-07:00"), at("2026-06-01T12:00"), 2) == [
            "01 14:00", "01 22:00",
        ]  # fmt: skip
    finally:
        monkeypatch.undo()
        time.tzset()


def test_work_that_fits_a_window_is_done_in_it() -> None:
    hours = parse_hours("20:00-22:00", "UTC")

    assert hours.when_done(at("2026-06-01T20:30"), 60, 3540) == at("2026-06-01T21:30")


def test_work_waits_for_the_window_and_goes_on_in_the_next_one() -> None:
    hours = parse_hours("20:00-22:00", "UTC")
    # an hour a night is for loading the engine
    assert hours.when_done(at("2026-06-01T12:00"), 3600, 5400) == at("2026-06-02T21:30")


def test_work_is_never_done_where_windows_are_too_short_to_load_an_engine() -> None:
    assert parse_hours("20:00-20:10", "UTC").when_done(at("2026-06-01T12:00"), 600, 10) is None


@pytest.mark.parametrize("value", ["7-23h", "23-7", "", "nights", "23:00", "23:00-", "1:2-3:4"])
def test_what_is_no_window_is_refused_with_examples_of_some(value: str) -> None:
    with pytest.raises(UsageError, match=r'resources\.hours: .* is no window .*"23:00-07:00"'):
        job(resources={"hours": value})


@pytest.mark.parametrize("value", ["25:00-07:00", "23:00-24:01", "23:60-07:00", "0:00-99:00"])
def test_what_is_no_time_of_the_day_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match=r"resources\.hours: .* is no time of the day: give"):
        job(resources={"hours": value})


@pytest.mark.parametrize("value", ["07:00-07:00", "00:00-24:00"])
def test_a_window_that_ends_as_it_begins_is_refused_with_the_mend(value: str) -> None:
    with pytest.raises(UsageError, match=r"begins and ends at the same time: leave hours away"):
        job(resources={"hours": value})


def test_hours_may_be_a_list() -> None:
    made = job(resources={"hours": ["23:00-07:00", "12:00-13:00"]}).resources

    assert made.when is not None
    assert made.when.windows == ((23 * 60, 7 * 60), (12 * 60, 13 * 60))


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(UsageError, match="timezone 'Berlin' is unknown"):
        job(resources={"hours": "23:00-07:00", "timezone": "Berlin"})


def test_a_time_zone_without_hours_is_refused() -> None:
    with pytest.raises(UsageError, match="timezone has an effect only with hours"):
        job(resources={"timezone": BERLIN})


def test_hours_that_are_none_are_told_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(
        'name: x\nmodel: gemma-3-270m\ninput: {path: a.jsonl}\nprompt: "{text}"\n'
        'output: {path: out}\nresources:\n  hours: "7-23h"\n'
    )

    with pytest.raises(UsageError, match=r"job\.yaml, line 7: resources\.hours: '7-23h'"):
        load_job(file)
