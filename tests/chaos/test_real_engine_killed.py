"""The same with vLLM: two engines, and SIGKILL for the driver, the coordinator and a worker."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.model.folder import ModelFolder
from tests.chaos.blows import Blow, Victim
from tests.chaos.harness import Outcome, Story
from tests.chaos.place import real_place

# ordinary tests kill real engines in tests/runs/test_real_core.py
pytestmark = [pytest.mark.engine, pytest.mark.alone, pytest.mark.ray, pytest.mark.long]

_BLOWS = (
    Blow(Victim.DRIVER, 0.1, 0.2),
    Blow(Victim.COORDINATOR, 0.3, 0.2),
    Blow(Victim.WORKER, 0.5, 0.2),
)


def test_real_engines_that_are_killed_lose_nothing(
    model: ModelFolder, tmp_path: Path, tell: Callable[[Outcome], None]
) -> None:
    place = real_place(tmp_path, os.environ, rows=256, workers=2)
    outcome = Story(place, "vllm", _BLOWS).play()
    tell(outcome)
    assert not outcome.trouble, str(outcome)
    assert outcome.victims.total() >= 2
