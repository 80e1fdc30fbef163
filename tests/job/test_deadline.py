"""Deadlines: a time with its zone, or so long after a job began."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from pipeline import UsageError
from pipeline.job.when.deadline import deadline_at
from tests.support.samples import job

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "lasts"),
    [
        ("90s", timedelta(seconds=90)),
        ("90m", timedelta(minutes=90)),
        ("8h", timedelta(hours=8)),
        ("2d", timedelta(days=2)),
        ("1.5h", timedelta(minutes=90)),
        (" 8 h ", timedelta(hours=8)),
    ],
)
def test_a_duration_counts_from_the_beginning(text: str, lasts: timedelta) -> None:
    assert deadline_at(text, NOON) == NOON + lasts


@pytest.mark.parametrize(
    "text", ["2026-06-02T06:00:00+02:00", "2026-06-02T04:00Z", "2026-06-02 06:00+02:00"]
)
def test_a_time_with_its_zone_is_that_time_whenever_the_job_begins(text: str) -> None:
    for began in (NOON, NOON + timedelta(days=9)):
        assert deadline_at(text, began) == datetime(2026, 6, 2, 4, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2026-06-02T06:00:00", "2026-06-02"])
def test_a_time_without_a_zone_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="has no time zone: give a time with its zone"):
        deadline_at(text, NOON)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "8", "8 hours", "h", "-8h", "0h", "8h30m", "4000d", "1e9d", "9" * 400 + "d"],
)
def test_what_is_no_deadline_is_refused_with_examples_of_some(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no deadline: give a time .* or a duration: 90m"):
        deadline_at(text, NOON)


def test_a_time_that_nobody_will_see_is_refused() -> None:
    with pytest.raises(ValueError, match="too far away"):
        deadline_at("9999-12-31T23:59:59-23:59", NOON)


def test_a_time_as_yaml_reads_it_is_kept_as_text() -> None:
    at = datetime(2027, 1, 1, 6, tzinfo=timezone(timedelta(hours=1)))

    asked = job(resources={"deadline": at}).resources.deadline

    assert asked == "2027-01-01T06:00:00+01:00"


def test_a_job_needs_none() -> None:
    assert job(resources={"deadline": None}).resources.deadline is None


@pytest.mark.parametrize("value", [480, True, 8.5, ["8h"], NOON.date(), NOON.replace(tzinfo=None)])
def test_a_job_with_a_deadline_that_is_none_is_refused_with_the_mend(value: object) -> None:
    with pytest.raises(UsageError, match=r"resources\.deadline: .*or a duration: 90m, 8h, 2d"):
        job(resources={"deadline": value})
