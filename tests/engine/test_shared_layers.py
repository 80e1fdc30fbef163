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


_CARDS = (2, 4)


@pytest.fixture(scope="module")
def held(
    tmp_path_factory: pytest.TempPathFactory, launcher, model: ModelFolder
) -> dict[str, dict[str, int]]:
    """Bytes by number of cards and model."""
    folder = tmp_path_factory.mktemp("layers")
    answers = folder / "answers.json"
    done = launcher.python(
        *(shared_layers_probe.__file__, answers, model.path / "config.json", *_CARDS),
        cwd=folder,
        PYTHONPATH=str(Path(__file__).parents[2]),
    )
    assert done.code == 0, done.err
    found: dict[str, dict[str, int]] = json.loads(answers.read_text())
    return found


@pytest.mark.parametrize("cards", _CARDS)
def test_each_card_has_the_weights_that_vllm_gives_it(
    cards: int, held: dict[str, dict[str, int]]
) -> None:
    """All sizes in int4. vLLM also notes every layer's shape: a few bytes each."""
    predicted = {
        name: weight_bytes(known.geometry, "int4").on_card(known.geometry, cards)
        for name, known in MODELS.items()
        if known.geometry.query_heads % cards == 0
    }
    assert held[str(cards)] == pytest.approx(predicted, rel=1e-4)
