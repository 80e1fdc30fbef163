"""What each of several cards holds of a model, against vLLM's own layers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.budget.weights import weight_bytes
from pipeline.model.catalogue import MODELS
from pipeline.model.folder import ModelFolder
from tests.engine import shared_layers_probe

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("cards", [2, 4])
def test_each_card_has_the_weights_that_vllm_gives_it(
    cards: int, tmp_path: Path, launcher, model: ModelFolder
) -> None:
    """All sizes in int4. vLLM also notes every layer's shape: a few bytes each."""
    answers = tmp_path / "answers.json"
    done = launcher.python(
        *(shared_layers_probe.__file__, answers, model.path / "config.json", cards),
        cwd=tmp_path,
        PYTHONPATH=str(Path(__file__).parents[2]),
    )
    assert done.code == 0, done.err
    predicted = {
        name: weight_bytes(known.geometry, "int4").on_card(known.geometry, cards)
        for name, known in MODELS.items()
    }
    assert json.loads(answers.read_text()) == pytest.approx(predicted, rel=1e-4)
