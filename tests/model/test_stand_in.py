"""Planning for a model that was never fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import UsageError
from pipeline.model.catalogue import MODELS
from pipeline.model.folder import PROVENANCE_FILE, ModelFolder
from pipeline.model.stand_in import StandIn, rehearsed_hash, resolve_for_planning
from tests.support.samples import write_model


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with one model, and no hub that could be asked."""
    monkeypatch.setenv("RACKMILL_HOME", str(tmp_path))
    folder = write_model(tmp_path / "models" / "some-gemma")
    (folder / PROVENANCE_FILE).write_text('{"weights_sha256": "x"}')
    return folder


def test_it_has_the_shape_of_the_one_and_the_tokenizer_of_another(store: Path) -> None:
    model = resolve_for_planning("gemma-3-12b")

    assert isinstance(model, StandIn)
    assert model.geometry == MODELS["gemma-3-12b"].geometry
    assert (model.precision, model.has_vision, model.has_chat_template) == ("int4", True, True)
    assert model.path == store


def test_it_is_said_that_the_model_is_not_there(store: Path) -> None:
    said: list[str] = []
    resolve_for_planning("gemma-3-27b-bf16", said.append)

    assert said == ["gemma-3-27b is not in the store yet; `run` fetches it first"]


def test_a_folder_is_itself(store: Path) -> None:
    assert resolve_for_planning(str(store)).path == store


def test_an_address_whose_shape_nobody_knows_is_refused(store: Path) -> None:
    with pytest.raises(UsageError, match="rackmill model add hf://someone/gemma"):
        resolve_for_planning("hf://someone/gemma")


def test_a_rehearsal_is_the_same_whether_the_model_is_stored_or_not(tmp_path: Path) -> None:
    write_model(tmp_path / "one")
    write_model(tmp_path / "other")
    one, other = ModelFolder("one", tmp_path / "one"), ModelFolder("other", tmp_path / "other")

    assert rehearsed_hash("gemma-3-12b", one) == rehearsed_hash("gemma-3-12b", other)
    assert rehearsed_hash("gemma-3-12b", one) != rehearsed_hash("gemma-3-4b", one)
    assert rehearsed_hash(str(tmp_path / "one"), one) == one.hash
