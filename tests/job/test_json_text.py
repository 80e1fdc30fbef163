"""Values as plain JSON, for scripts."""

from __future__ import annotations

import datetime
import json
import math
from decimal import Decimal

import pytest

from pipeline.job.template.field_text import as_shown
from pipeline.job.template.json_text import plain_json


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (b"text", "text"),
        (b"\xff", "/w=="),
        (math.nan, None),
        (-math.inf, None),
        (Decimal("1.10"), 1.1),
        (Decimal("0.12345678901234567890"), "0.12345678901234567890"),
        (datetime.date(2026, 3, 4), "2026-03-04"),
        ({1: [True, None, (2**60,)]}, {"1": [True, None, [2**60]]}),
    ],
)
def test_every_value_of_a_row_can_be_written(value: object, plain: object) -> None:
    assert plain_json(value) == plain
    json.dumps(plain_json(value), allow_nan=False)


def test_bytes_that_are_no_text_are_described_to_people() -> None:
    assert as_shown(b"\xff\x00") == "<2 bytes>"
