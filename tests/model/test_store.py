"""From a job's `model:` line to a folder, without a network."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline import UsageError
from pipeline.model.catalogue import CATALOGUE
from pipeline.model.store import PROVENANCE_FILE, ModelFolder, check_reference, resolve, store_root
from tests.samples import CONFIG_270M, GEMMA_270M, write_model


def refusal(reference: str | Path) -> str:
    with pytest.raises(UsageError) as caught:
        resolve(str(reference))
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "gemma")


def test_a_checkpoint_folder_is_itself(folder: Path) -> None:
    model = resolve(str(folder))

    assert (model.name, model.path, model.geometry) == ("gemma", folder, GEMMA_270M)
    assert model.weights_bytes == (folder / "model.safetensors").stat().st_size
    assert model.quantization == "bfloat16"


def test_a_relative_folder_is_found_whatever_the_worker_stands_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)

    assert resolve("./gemma").path == folder


def test_an_unknown_name_is_refused_with_the_nearest_and_all_known() -> None:
    said = refusal("gemma-3-270")

    assert "unknown model 'gemma-3-270'" in said
    assert "did you mean gemma-3-270m?" in said
    assert all(name in said for name in CATALOGUE)


def test_a_folder_that_is_not_there_is_refused() -> None:
    assert "no such folder: ./nowhere/gemma" in refusal("./nowhere/gemma")


def test_a_gguf_file_that_is_not_there_is_refused() -> None:
    assert "no such file: absent.gguf" in refusal("absent.gguf")


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
def test_a_folder_that_lacks_a_file_is_refused_with_its_name(folder: Path, missing: str) -> None:
    (folder / missing).unlink()

    assert f"lacks {missing}" in refusal(folder)


def test_a_folder_without_safetensors_is_refused(folder: Path) -> None:
    """Pickled weights would run what is in them."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    assert "no .safetensors weights" in refusal(folder)


def test_a_folder_of_another_architecture_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG_270M | {"model_type": "qwen3"}))

    assert "holds a qwen3 model" in refusal(folder)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_names_of_the_catalogue_are_references(name: str) -> None:
    check_reference(name)


def test_the_hash_stays_while_the_weights_do(folder: Path) -> None:
    assert resolve(str(folder)).hash == resolve(str(folder)).hash


def test_the_hash_changes_with_the_weights(folder: Path) -> None:
    before = resolve(str(folder)).hash
    os.utime(folder / "model.safetensors", ns=(1, 1))

    assert resolve(str(folder)).hash != before


def test_the_hash_changes_with_the_config(folder: Path) -> None:
    before = resolve(str(folder)).hash
    (folder / "config.json").write_text(json.dumps(CONFIG_270M | {"hidden_size": 1}))

    assert resolve(str(folder)).hash != before


def test_a_converted_folder_says_what_it_is(folder: Path) -> None:
    provenance = {"weights_sha256": "abc", "quantization": "int4 group 32", "licence": "gemma"}
    (folder / PROVENANCE_FILE).write_text(json.dumps(provenance))

    model = ModelFolder("gemma", folder)
    assert (model.hash, model.quantization, model.licence) == ("abc", "int4 group 32", "gemma")


def test_the_store_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RACKMILL_HOME", str(tmp_path))
    assert store_root() == tmp_path / "models"

    monkeypatch.delenv("RACKMILL_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store_root() == tmp_path / ".cache" / "rackmill" / "models"


def test_a_model_that_was_converted_before_is_not_converted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RACKMILL_HOME", str(tmp_path))
    target = write_model(store_root() / "gemma-3-270m-int4-g32")
    (target / PROVENANCE_FILE).write_text("{}")
    reports: list[str] = []

    assert resolve("gemma-3-270m", reports.append).path == target
    assert reports == []


def test_a_gguf_file_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RACKMILL_HOME", str(tmp_path / "home"))
    (tmp_path / "a.gguf").write_bytes(b"nothing of the kind" * 10)

    assert "is not a readable GGUF file" in refusal(tmp_path / "a.gguf")
    assert not any((tmp_path / "home").rglob("*.safetensors"))
