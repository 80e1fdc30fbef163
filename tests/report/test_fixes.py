"""What is advised for error rows helps with them."""

from __future__ import annotations

import pytest

from pipeline.errors import RowErrorType
from pipeline.report.fixes import FIXES, HOPELESS, at_limit, next_step


@pytest.mark.parametrize(
    ("errors", "advice"),
    [
        ({"EngineFailure": 1, "InvalidRow": 9}, "rackmill retry out"),
        ({"Timeout": 1}, "rackmill retry out --set faults.row_timeout_seconds=SECONDS"),
        ({"PromptTooLong": 1}, "rackmill retry out --set engine.max_model_len=TOKENS"),
        ({"InvalidRow": 1}, "fix these rows of the input, then run the job again"),
        ({}, None),
    ],
)
def test_the_next_step_is_one_that_helps(errors: dict[str, int], advice: str | None) -> None:
    assert next_step(errors, "out") == advice


@pytest.mark.parametrize("kind", sorted(HOPELESS))
def test_a_retry_is_not_advised_where_it_would_end_alike(kind: RowErrorType) -> None:
    assert "retry" not in str(next_step({kind: 1}, "out"))


def test_every_type_of_error_has_a_mend() -> None:
    assert set(FIXES) == set(RowErrorType)


@pytest.mark.parametrize(
    ("reasons", "helps"),
    [
        ({"prompt has … characters, more than any context holds": 2}, False),
        ({"prompt has … characters, more than any context holds": 2, "…": 1}, True),
    ],
)
def test_more_context_is_not_advised_for_what_no_context_holds(
    reasons: dict[str, int], helps: bool
) -> None:
    limit = at_limit({"error_reasons": {"PromptTooLong": reasons}, "engines": []})

    assert ("max_model_len" in str(next_step({"PromptTooLong": 2}, "out", at_limit=limit))) is helps
