"""From a job's `model:` line to a folder: what is stored is used, what is not is made once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline import UsageError
from pipeline.model.catalogue import CATALOGUE, MODELS
from pipeline.model.folder import PROVENANCE_FILE, ModelFolder, write_provenance
from pipeline.model.store.index import store_root, stored_models
from pipeline.model.store.resolve import add, check_reference, in_store, resolve
from pipeline.model.store.steps import LineSteps
from tests.model.tiny_gguf import write
from tests.support.samples import CONFIG_270M, GEMMA_270M, write_model


def refusal(reference: str | Path) -> str:
    with pytest.raises(UsageError) as caught:
        resolve(str(reference))
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "gemma")


class TestFolders:
    def test_a_checkpoint_folder_is_itself(self, folder: Path) -> None:
        model = resolve(str(folder))

        assert (model.name, model.path, model.geometry) == ("gemma", folder, GEMMA_270M)
        assert model.weights_bytes == (folder / "model.safetensors").stat().st_size
        assert model.quantization == "bfloat16"

    def test_a_relative_folder_is_found_whatever_the_worker_stands_in(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folder.parent)

        assert resolve("./gemma").path == folder

    def test_a_folder_that_is_not_there_is_refused(self) -> None:
        assert "no such folder: ./nowhere/gemma" in refusal("./nowhere/gemma")

    @pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
    def test_a_folder_that_lacks_a_file_is_refused_with_its_name(
        self, folder: Path, missing: str
    ) -> None:
        (folder / missing).unlink()

        assert f"lacks {missing}" in refusal(folder)

    def test_a_folder_without_safetensors_is_refused(self, folder: Path) -> None:
        """Pickled weights would run what is in them."""
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

        assert "no .safetensors weights" in refusal(folder)

    def test_a_folder_of_another_architecture_is_refused(self, folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps(CONFIG_270M | {"model_type": "qwen3"}))

        assert "holds a qwen3 model" in refusal(folder)


class TestHash:
    def test_it_stays_while_the_weights_do(self, folder: Path) -> None:
        assert resolve(str(folder)).hash == resolve(str(folder)).hash

    def test_it_changes_with_the_weights(self, folder: Path) -> None:
        before = resolve(str(folder)).hash
        os.utime(folder / "model.safetensors", ns=(1, 1))

        assert resolve(str(folder)).hash != before

    def test_it_changes_with_the_config(self, folder: Path) -> None:
        before = resolve(str(folder)).hash
        (folder / "config.json").write_text(json.dumps(CONFIG_270M | {"hidden_size": 1}))

        assert resolve(str(folder)).hash != before

    def test_a_folder_made_here_says_what_it_is(self, folder: Path) -> None:
        facts = {"weights_sha256": "abc", "quantization": "int4 group 32", "licence": "gemma"}
        (folder / PROVENANCE_FILE).write_text(json.dumps(facts))

        model = ModelFolder("gemma", folder)
        assert (model.hash, model.quantization, model.licence) == ("abc", "int4 group 32", "gemma")

    def test_the_commit_is_part_of_it(self, folder: Path) -> None:
        hashes = set()
        for revision in ("", "a" * 40, "b" * 40):
            write_provenance(folder, {"weights_sha256": "abc", "revision": revision})
            hashes.add(ModelFolder("gemma", folder).hash)

        assert len(hashes) == 3


class TestNames:
    def test_an_unknown_name_is_refused_with_the_nearest_and_all_known(self) -> None:
        said = refusal("gemma-3-270")

        assert "unknown model 'gemma-3-270'" in said
        assert "did you mean gemma-3-270m?" in said
        assert all(name in said for name in MODELS)

    def test_the_nearest_may_be_one_in_the_store(self, home: Path) -> None:
        write_provenance(write_model(store_root() / "my-own-tune"), {})

        assert "did you mean my-own-tune?" in refusal("my-own-tun")

    @pytest.mark.parametrize("name", sorted(CATALOGUE))
    def test_names_of_the_catalogue_are_references(self, name: str) -> None:
        check_reference(name)

    def test_the_name_of_a_stored_folder_is_a_reference(self, home: Path) -> None:
        path = write_model(store_root() / "my-own-tune")
        write_provenance(path, {})

        assert resolve("my-own-tune").path == path
        assert [m.name for m in stored_models()] == ["my-own-tune"]

    def test_the_store_is_where_the_environment_says(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RACKMILL_HOME", str(tmp_path))
        assert store_root() == tmp_path / "models"

        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("RACKMILL_HOME", "near")
        assert store_root() == tmp_path / "near" / "models"

        monkeypatch.delenv("RACKMILL_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert store_root() == tmp_path / ".cache" / "rackmill" / "models"

    def test_a_model_that_was_converted_before_is_not_converted_again(self, home: Path) -> None:
        target = write_model(store_root() / "gemma-3-270m-int4-g32-v3")
        (target / PROVENANCE_FILE).write_text("{}")
        reports: list[str] = []

        assert resolve("gemma-3-270m", reports.append).path == target
        assert reports == []

    def test_a_half_made_folder_does_not_count(self, home: Path) -> None:
        write_model(store_root() / "gemma-3-270m-int4-g32-v3")

        assert in_store("gemma-3-270m") is None
        assert stored_models() == []


class TestEarlierVersions:
    @staticmethod
    def _age(path: Path, what: str) -> None:
        """Make it what version 2 wrote."""
        facts = {"tensor_types": [{"what": what}], "conversion": 2}
        write_provenance(path, facts)

    def test_what_they_rounded_stays_and_is_made_anew(
        self, home: Path, tmp_path: Path, converted: list[Path]
    ) -> None:
        source = write(tmp_path / "a.gguf")
        old = resolve(str(source)).path
        self._age(old, "rounded to int4, GPTQ")
        old = old.rename(old.with_name("a-int4-0123456789ab"))
        said: list[str] = []

        new = resolve(str(source), said.append)

        assert new.path != old
        assert not new.is_outdated
        assert any("stays as a-int4-0123456789ab" in line for line in said)
        assert resolve(old.name).path == old
        assert resolve(old.name).is_outdated
        assert resolve(str(source)).path == new.path

    def test_what_they_carried_over_is_as_good(
        self, home: Path, tmp_path: Path, converted: list[Path]
    ) -> None:
        source = write(tmp_path / "a.gguf")
        old = resolve(str(source)).path
        self._age(old, "codes kept")

        assert resolve(str(source)).path == old
        assert len(converted) == 1


class TestGgufFiles:
    def test_one_that_is_not_there_is_refused(self) -> None:
        assert "no such file: absent.gguf" in refusal("absent.gguf")

    def test_one_that_is_none_is_refused(self, home: Path, tmp_path: Path) -> None:
        (tmp_path / "a.gguf").write_bytes(b"nothing of the kind" * 10)

        assert "is not a readable GGUF file" in refusal(tmp_path / "a.gguf")
        assert not any(home.rglob("*.safetensors"))

    def test_one_is_converted_once_wherever_it_lies_then(
        self, home: Path, tmp_path: Path, converted: list[Path]
    ) -> None:
        first = resolve(str(write(tmp_path / "a.gguf")))
        (tmp_path / "elsewhere").mkdir()
        moved = (tmp_path / "a.gguf").rename(tmp_path / "elsewhere" / "b.gguf")
        os.utime(moved, ns=(1, 1))

        assert resolve(str(moved)).path == first.path
        assert len(converted) == 1

    def test_another_content_under_the_same_name_is_another_model(
        self, home: Path, tmp_path: Path, converted: list[Path]
    ) -> None:
        path = write(tmp_path / "a.gguf")
        first = resolve(str(path))
        changed = bytearray(path.read_bytes())
        changed[-1] ^= 1
        path.write_bytes(changed)

        assert resolve(str(path)).path != first.path

    def test_a_revision_of_a_local_file_is_refused(self, home: Path, tmp_path: Path) -> None:
        path = write(tmp_path / "a.gguf")

        with pytest.raises(UsageError, match="is not from a hub"):
            add(str(path), "main", LineSteps(print))


@pytest.mark.parametrize(
    "address",
    ["hf://", "hf://one", "hf://a/b:", "hf://a/b:../x.gguf", "hf://a/b@:x", "hf://a/b:/etc/x.gguf"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    assert "is not an address on a hub" in refusal(address)


def test_an_address_written_with_slashes_is_mended() -> None:
    assert "did you mean hf://a/b:c.gguf?" in refusal("hf://a/b/c.gguf")
