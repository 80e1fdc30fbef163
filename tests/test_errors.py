from __future__ import annotations

import pickle

import pytest

from pipeline.errors import (
    CommitFailed,
    CommitStateUnknown,
    EngineFailed,
    JobFailed,
    RackmillError,
    RowError,
    RowErrorType,
    Stopped,
    StorageFailed,
    UsageError,
    did_you_mean,
)


@pytest.mark.parametrize(
    "kind",
    [UsageError, JobFailed, EngineFailed, StorageFailed, CommitFailed, CommitStateUnknown],
)
def test_an_error_keeps_its_type_message_and_hints_between_processes(
    kind: type[RackmillError],
) -> None:
    travelled = pickle.loads(pickle.dumps(kind("what", "where", "fix")))

    assert type(travelled) is kind
    assert (travelled.message, travelled.hints) == ("what", ("where", "fix"))


def test_an_error_reads_as_its_message_with_one_hint_a_line() -> None:
    assert str(UsageError("what", "where", "fix")).splitlines() == ["what", "  where", "  fix"]


def test_the_exit_code_tells_wrong_usage_from_a_failed_job() -> None:
    assert (UsageError("").exit_code, JobFailed("").exit_code, EngineFailed("").exit_code) == (
        2,
        1,
        1,
    )


def test_a_run_that_was_stopped_has_the_exit_code_of_ctrl_c() -> None:
    assert Stopped("").exit_code == 130


def test_a_row_error_keeps_its_attempts_between_processes() -> None:
    error = RowError(RowErrorType.ENGINE_FAILURE, "it died", attempts=2)

    assert pickle.loads(pickle.dumps(error)) == error


def test_row_error_types_are_stable_names_that_scripts_match_on() -> None:
    assert {t.value for t in RowErrorType} == {
        "InvalidRow",
        "PromptTooLong",
        "InvalidSampling",
        "SchemaNotMet",
        "EngineFailure",
        "Timeout",
    }


def test_a_near_word_is_found_and_a_far_one_is_not() -> None:
    assert did_you_mean("temprature", ["top_p", "temperature"]) == ["did you mean temperature?"]
    assert did_you_mean("zebra", ["top_p", "temperature"]) == []
