"""The `schedule:` of a job file: Kubernetes' words, checked when the file is read."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.job.fingerprint import fingerprint_parts
from tests.support.samples import job

NIGHTLY = {"cron": "0 2 * * *"}


def test_what_is_left_out_has_a_careful_default() -> None:
    found = job(schedule=NIGHTLY).schedule
    assert found is not None
    assert (found.timezone, found.concurrencyPolicy, found.suspend) == ("UTC", "Forbid", False)
    assert found.startingDeadlineSeconds is None


def test_a_schedule_does_not_change_what_a_job_is() -> None:
    with_one, without = (
        fingerprint_parts(job(**given), model_hash="m", input_hash="i")
        for given in ({"schedule": NIGHTLY}, {})
    )
    assert with_one == without


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"cron": "0 2 * *"}, "4 fields, not 5"),
        ({"cron": "@reboot"}, "1 fields"),
        ({"timezone": "Berlin"}, "write it like Europe/Berlin"),
        ({"concurrencyPolicy": "forbid"}, "Forbid"),
        ({"startingDeadlineSeconds": 0}, "more than 0"),
        ({"timeZone": "Europe/Berlin"}, "timezone"),
        ({"notify": {"webhook": "file:///etc/passwd"}}, "webhook"),
        ({"notify": {"webhook": "https://me:secret@host/x"}}, "password"),
        ({"notify": {"command": "rm -rf /"}}, "command"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError) as refused:
        job(schedule=NIGHTLY | changes)
    assert word in "\n".join([refused.value.message, *refused.value.hints])
