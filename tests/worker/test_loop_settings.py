"""How long answers may become that one engine of a job writes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from pipeline.worker.engine_loop.loop_settings import LoopSettings
from tests.support.samples import job

CONTEXT = 1000
CHOICES = {"choices": ["yes", "no"]}


@pytest.mark.parametrize(
    ("changes", "column", "longest"),
    [
        ({"sampling": {"max_tokens": 50}}, False, 50),
        ({"sampling": {"max_tokens": 5000}}, False, CONTEXT),
        ({"sampling": {"max_tokens": 50}}, True, CONTEXT),
        ({"label": CHOICES}, False, 1),
        ({"label": CHOICES}, True, 1),
    ],
)
def test_an_answer_is_no_longer_than_the_job_or_else_the_context_allows(
    changes: dict[str, Any], column: bool, longest: int
) -> None:
    schema = pa.schema({"text": pa.string()} | ({"sampling_params": pa.string()} if column else {}))
    spec: Any = SimpleNamespace(
        job=job(**changes),
        model=SimpleNamespace(geometry=None),
        input_schema=schema,
        known_lengths=None,
    )

    assert LoopSettings.of(spec, CONTEXT).longest_answer == longest
