"""What is wrong with a value is said in words for people who write job files."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import job_from
from pipeline.errors import UsageError
from tests.support.samples import BASE_JOB


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": {"choices": "yes, no"}}, "label.choices: give a list, not 'yes, no'"),
        ({"label": {"choices": {"a": 1}}}, "label.choices: give a list, not {'a': 1}"),
        ({"input": "a.csv"}, "input: give a mapping, as {key: value}, not 'a.csv'"),
        ({"sampling": {"max_tokens": "many"}}, "give a whole number, not 'many'"),
        ({"sampling": {"max_tokens": 1.5}}, "give a whole number, not 1.5"),
        ({"sampling": {"max_tokens": 0}}, "give at least 1, not 0"),
        ({"sampling": {"temperature": 3}}, "give at most 2, not 3"),
        ({"sampling": {"ignore_eos": "perhaps"}}, "give true or false, not 'perhaps'"),
        ({"input": {"path": "a", "format": "xml"}}, "give 'parquet', 'jsonl' or 'csv', not 'xml'"),
        ({"model": None}, "model: give text, not null"),
        ({"name": "x" * 10_000}, "not 'xxx"),
    ],
)
def test_it_says_what_to_give(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        job_from(BASE_JOB | change)

    assert said in str(caught.value)
    assert len(str(caught.value)) < 300
