"""What is advised for error rows helps with them."""

from __future__ import annotations

import pytest

from pipeline.errors import RowErrorType
from pipeline.report.fixes import FIXES, HOPELESS, next_step


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
