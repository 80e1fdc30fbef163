"""Several questions of a row in vLLM's own scheduler, without a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engine import row_scheduler_probe
from tests.engine.row_scheduler_probe import CASES

_ROOT = Path(__file__).parents[2]
_BLOCK = 32


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """That it ran to its end shows that no request read another's tokens, that two of a row never
    ran at once, that it never stood still, and that all blocks came back."""
    pytest.importorskip("vllm")
    folder = tmp_path_factory.mktemp("rows")
    asked = subprocess.run(
        [sys.executable, str(row_scheduler_probe.__file__), str(folder)],
        cwd=_ROOT,
        env=os.environ | {"PYTHONPATH": str(_ROOT), "VLLM_LOGGING_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert asked.returncode == 0, asked.stdout + asked.stderr
    answers: dict[str, list[dict[str, Any]]] = json.loads((folder / "answers.json").read_text())
    return answers


def test_questions_of_a_row_end_whatever_the_cache_and_whoever_gives_up(
    driven: dict[str, list[dict[str, Any]]],
) -> None:
    assert set(driven) == {case.name for case in CASES}


def test_a_rows_text_is_computed_once_to_the_token(
    driven: dict[str, list[dict[str, Any]]],
) -> None:
    """What is computed twice are tokens of the instructions, which other rows have in common: the
    last ones, that fill no block."""
    rows = next(case.rows for case in CASES if case.name == "in rows")
    for drive in driven["in rows"]:
        assert drive["least"] <= drive["computed"] < drive["least"] + rows * _BLOCK
    alone = sum(drive["computed"] - drive["least"] for drive in driven["alone"])
    assert sum(drive["computed"] - drive["least"] for drive in driven["in rows"]) < 0.7 * alone
