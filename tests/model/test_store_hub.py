"""Models from a hub: fetched once, pinned to their commit, found again without a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import UsageError
from pipeline.errors import RackmillError
from pipeline.model.catalogue import CATALOGUE
from pipeline.model.folder import ModelFolder, read_provenance, sha256_of
from pipeline.model.store.index import store_root, stored_models
from pipeline.model.store.resolve import add, in_store, resolve
from pipeline.model.store.steps import LineSteps
from tests.model.tiny_gguf import write
from tests.support.hub import Hub
from tests.support.samples import write_model

REPOSITORY = "someone/gemma-3-tiny-it-GGUF"
FILE = f"hf://{REPOSITORY}:tiny-Q4_0.gguf"
CHECKPOINT = "someone/gemma-3-tiny-it"


def refusal(reference: str) -> str:
    with pytest.raises(UsageError) as caught:
        resolve(reference)
    return str(caught.value)


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
