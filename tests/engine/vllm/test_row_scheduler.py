"""Several questions of a row in vLLM's own scheduler, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine.vllm import row_scheduler_probe
from tests.engine.vllm.row_scheduler_probe import CASES
from tests.support.probes import answers_of

pytestmark = pytest.mark.early

_BLOCK = 32


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """That it ran to its end shows that no request read another's tokens, that two of a row never
    ran at once, that it never stood still, and that all blocks came back."""
    pytest.importorskip("vllm")
    folder = tmp_path_factory.mktemp("rows")
    probe = Path(row_scheduler_probe.__file__)
    answers: dict[str, list[dict[str, Any]]] = answers_of(probe, folder)
    return answers


def test_questions_of_a_row_end_whatever_the_cache_and_whoever_gives_up(
    driven: dict[str, list[dict[str, Any]]],
) -> None:
    assert set(driven) == {case.name for case in CASES}


@pytest.mark.parametrize("name", ["few at a time", "few at a time, alone"])
def test_what_prompts_begin_with_is_computed_once_to_the_token(
    name: str, driven: dict[str, list[dict[str, Any]]]
) -> None:
    """But by those that begin side by side: the last tokens of the instructions, and of a text
    that is asked about by requests of which nobody said that they are of one row."""
    for drive in driven[name]:
        again = drive["computed"] - drive["least"]
        if name == "few at a time":
            assert 0 <= again < 4 * _BLOCK
        else:
            assert again > 8 * _BLOCK
