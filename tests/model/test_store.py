"""From a job's `model:` line to a folder: what is stored is used, what is not is made once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import UsageError
from pipeline.errors import RackmillError
from pipeline.model import store
from pipeline.model.catalogue import CATALOGUE, MODELS
from pipeline.model.folder import read_provenance, sha256_of, write_provenance
from pipeline.model.making import complete, content_key
from pipeline.model.steps import LineSteps
from pipeline.model.store import (
    PROVENANCE_FILE,
    ModelFolder,
    add,
    check_reference,
    in_store,
    resolve,
    store_root,
    stored_models,
)
from tests.hub import Hub
from tests.model.tiny_gguf import write
from tests.samples import CONFIG_270M, GEMMA_270M, write_model

REPOSITORY = "someone/gemma-3-tiny-it-GGUF"
FILE = f"hf://{REPOSITORY}:tiny-Q4_0.gguf"
CHECKPOINT = "someone/gemma-3-tiny-it"


def refusal(reference: str | Path) -> str:
    with pytest.raises(UsageError) as caught:
        resolve(str(reference))
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "gemma")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RACKMILL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        for variable in ("HF_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(variable, raising=False)
        yield hub


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were converted; the converting itself is tested elsewhere."""
    files: list[Path] = []

    def make(source: Path, target: Path, *, facts: Mapping[str, str], **more: Any) -> None:
        files.append(source)
        write_model(target)
        own = {"precision": more["precision"], "gguf_key": content_key(source)}
        write_provenance(target, {"source_sha256": sha256_of(source)})
        complete(target, own | dict(facts))

    monkeypatch.setattr(store, "make_checkpoint", make)
    return files


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

        monkeypatch.delenv("RACKMILL_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert store_root() == tmp_path / ".cache" / "rackmill" / "models"

    def test_a_model_that_was_converted_before_is_not_converted_again(self, home: Path) -> None:
        target = write_model(store_root() / "gemma-3-270m-int4-g32")
        (target / PROVENANCE_FILE).write_text("{}")
        reports: list[str] = []

        assert resolve("gemma-3-270m", reports.append).path == target
        assert reports == []

    def test_a_half_made_folder_does_not_count(self, home: Path) -> None:
        write_model(store_root() / "gemma-3-270m-int4-g32")

        assert in_store("gemma-3-270m") is None
        assert stored_models() == []


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


class TestHub:
    @pytest.fixture
    def file(self, tmp_path: Path) -> bytes:
        return write(tmp_path / "tiny.gguf").read_bytes()

    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> dict[str, bytes]:
        made = write_model(tmp_path / "made")
        return {p.name: p.read_bytes() for p in made.iterdir()} | {"README.md": b"read me"}

    @pytest.fixture
    def said(self) -> list[str]:
        return []

    @pytest.fixture
    def add_again(self, said: list[str]) -> Callable[..., ModelFolder]:
        return lambda reference, revision="": add(reference, revision, LineSteps(said.append))

    def test_a_gguf_file_is_fetched_converted_and_cleared_away(
        self, hub: Hub, home: Path, file: bytes, converted: list[Path]
    ) -> None:
        commit = hub.put(REPOSITORY, {"tiny-Q4_0.gguf": file})
        reports: list[str] = []
        model = resolve(FILE, reports.append)

        assert model.name == "tiny-Q4_0"
        assert model.revision == commit
        assert model.provenance["source"] == f"hf://{REPOSITORY}@{commit}:tiny-Q4_0.gguf"
        assert len(converted) == 1
        assert list((home / "downloads").iterdir()) == []
        assert [line.split(" ")[0] for line in reports] == ["fetching", "converting"]

    def test_a_checkpoint_is_fetched_whole_with_its_hashes(
        self, hub: Hub, home: Path, checkpoint: dict[str, bytes]
    ) -> None:
        commit = hub.put(CHECKPOINT, checkpoint)
        model = resolve(f"hf://{CHECKPOINT}")

        assert model.path == store_root() / f"gemma-3-tiny-it-{commit[:12]}"
        facts = read_provenance(model.path)
        assert facts["files"] == {
            name: sha256_of(model.path / name) for name in checkpoint if name != "README.md"
        }
        assert facts["revision"] == commit

    def test_what_is_stored_needs_no_network(
        self, hub: Hub, file: bytes, converted: list[Path]
    ) -> None:
        hub.put(REPOSITORY, {"tiny-Q4_0.gguf": file})
        first = resolve(FILE)
        hub.asked.clear()

        assert resolve(FILE).path == first.path
        assert resolve(f"hf://{REPOSITORY}").path == first.path
        assert resolve(f"hf://{REPOSITORY}@{first.revision}:tiny-Q4_0.gguf").path == first.path
        assert hub.asked == []

    def test_a_moved_branch_is_noticed_by_add_alone(
        self, hub: Hub, file: bytes, converted: list[Path], add_again: Callable[..., ModelFolder]
    ) -> None:
        hub.put(REPOSITORY, {"tiny-Q4_0.gguf": file})
        first = resolve(FILE)
        changed = file[:-1] + bytes([file[-1] ^ 1])
        commit = hub.put(REPOSITORY, {"tiny-Q4_0.gguf": changed})

        assert resolve(FILE).path == first.path
        second = add_again(FILE)
        assert second.revision == commit
        assert second.hash != first.hash
        assert resolve(FILE).path == second.path
        assert resolve(f"hf://{REPOSITORY}@{first.revision}:tiny-Q4_0.gguf").path == first.path

    def test_a_branch_that_moved_without_the_file_fetches_nothing(
        self, hub: Hub, file: bytes, converted: list[Path], add_again: Callable[..., ModelFolder]
    ) -> None:
        hub.put(REPOSITORY, {"tiny-Q4_0.gguf": file})
        first = resolve(FILE)
        commit = hub.put(REPOSITORY, {"README.md": b"new words"})

        second = add_again(FILE)
        assert (second.path, second.hash) == (first.path, first.hash)
        assert len(hub.ranges("tiny-Q4_0.gguf")) == 1
        assert resolve(f"hf://{REPOSITORY}@{commit}:tiny-Q4_0.gguf").path == first.path

    def test_an_older_revision_can_be_added_beside(
        self, hub: Hub, file: bytes, converted: list[Path], add_again: Callable[..., ModelFolder]
    ) -> None:
        old = hub.put(REPOSITORY, {"tiny-Q4_0.gguf": file})
        hub.put(REPOSITORY, {"tiny-Q4_0.gguf": file[::-1]})

        assert add_again(FILE, old).revision == old
        with pytest.raises(UsageError, match="names another one"):
            add_again(f"hf://{REPOSITORY}@{old}:tiny-Q4_0.gguf", "main")

    def test_add_without_a_network_keeps_what_there_is(
        self,
        hub: Hub,
        file: bytes,
        converted: list[Path],
        monkeypatch: pytest.MonkeyPatch,
        said: list[str],
        add_again: Callable[..., ModelFolder],
    ) -> None:
        hub.put(REPOSITORY, {"tiny-Q4_0.gguf": file})
        first = resolve(FILE)
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

        assert add_again(FILE).path == first.path
        assert any("kept as it is" in line for line in said)

    def test_a_name_of_the_catalogue_comes_through_the_same_door(
        self, hub: Hub, file: bytes, converted: list[Path]
    ) -> None:
        source = CATALOGUE["gemma-3-1b"].source
        hub.put(source.repository, {source.file: file})
        model = resolve("gemma-3-1b")

        assert model.name == "gemma-3-1b"
        assert model.path.name.startswith("gemma-3-1b-int4-")
        found = in_store("gemma-3-1b-int4")
        assert found is not None
        assert found.path == model.path

    def test_an_unknown_file_is_refused_with_the_nearest(self, hub: Hub, file: bytes) -> None:
        hub.put(REPOSITORY, {"tiny-Q4_0.gguf": file, "mmproj-tiny.gguf": b"", "README.md": b""})

        said = refusal(f"hf://{REPOSITORY}:tiny-Q4_K_M.gguf")
        assert "has no file 'tiny-Q4_K_M.gguf'" in said
        assert FILE in said
        assert "mmproj" not in said

    def test_several_files_are_refused_with_their_addresses(self, hub: Hub, file: bytes) -> None:
        hub.put(REPOSITORY, {"tiny-Q4_0.gguf": file, "tiny-Q8_0.gguf": file})

        said = refusal(f"hf://{REPOSITORY}")
        assert "holds 2 GGUF files: choose one" in said
        assert FILE in said

    def test_the_only_file_beside_a_vision_tower_is_the_model(
        self, hub: Hub, file: bytes, converted: list[Path]
    ) -> None:
        hub.put(REPOSITORY, {"tiny-Q4_0.gguf": file, "mmproj-model-f16.gguf": b"eyes"})

        assert resolve(f"hf://{REPOSITORY}").name == "tiny-Q4_0"

    def test_pickled_weights_are_refused(self, hub: Hub) -> None:
        hub.put(CHECKPOINT, {"pytorch_model.bin": b"", "config.json": b"{}"})

        assert "neither .safetensors nor .gguf" in refusal(f"hf://{CHECKPOINT}")

    def test_a_checkpoint_of_another_architecture_is_not_stored(
        self, hub: Hub, checkpoint: dict[str, bytes]
    ) -> None:
        hub.put(CHECKPOINT, checkpoint | {"config.json": b'{"model_type": "qwen3"}'})

        assert "holds a qwen3 model" in refusal(f"hf://{CHECKPOINT}")
        assert stored_models() == []

    def test_the_token_is_written_nowhere(
        self,
        hub: Hub,
        home: Path,
        file: bytes,
        checkpoint: dict[str, bytes],
        converted: list[Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", hub.token)
        hub.put(REPOSITORY, {"tiny-Q4_0.gguf": file})
        hub.put(CHECKPOINT, checkpoint)
        hub.gated = {REPOSITORY, CHECKPOINT}
        resolve(FILE)
        resolve(f"hf://{CHECKPOINT}")

        for path in home.rglob("*"):
            assert path.is_dir() or hub.token.encode() not in path.read_bytes()

    def test_a_full_disk_is_said_before_anything_is_fetched(
        self, hub: Hub, file: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.put(REPOSITORY, {"tiny-Q4_0.gguf": file})
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))

        with pytest.raises(RackmillError, match=r"fetching .* and converting it needs .* free"):
            resolve(FILE)
        assert hub.ranges("tiny-Q4_0.gguf") == []


@pytest.mark.parametrize(
    "address",
    ["hf://", "hf://one", "hf://a/b:", "hf://a/b:../x.gguf", "hf://a/b@:x", "hf://a/b:/etc/x.gguf"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    assert "is not an address on a hub" in refusal(address)


def test_an_address_written_with_slashes_is_mended() -> None:
    assert "did you mean hf://a/b:c.gguf?" in refusal("hf://a/b/c.gguf")
