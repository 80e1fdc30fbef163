"""`rackmill model`: list, add, info, verify, convert, as their user sees them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType

from pipeline.model.catalogue import MODELS, PRECISIONS
from pipeline.model.folder import ModelFolder, write_provenance
from pipeline.model.store.index import store_root
from tests.model import tiny_checkpoint, tiny_gguf
from tests.support.hub import Hub
from tests.support.processes import Finished

Ask = Callable[..., Finished]
CHECKPOINT = "someone/gemma-3-tiny-it"
LINEAR = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
Q4_0 = dict.fromkeys(LINEAR, GGMLQuantizationType.Q4_0)


@pytest.fixture
def store(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store; ``ask`` first, since the embedded model is found in the real one."""
    monkeypatch.setenv("RACKMILL_HOME", str(tmp_path / "home"))
    return store_root()


@pytest.fixture
def hub(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """With a checkpoint in it."""
    with Hub() as hub:
        made = tiny_checkpoint.write(tmp_path / "made")
        files = {p.name: p.read_bytes() for p in made.iterdir() if p.name != "rackmill.json"}
        hub.put(CHECKPOINT, files)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        for variable in ("HF_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(variable, raising=False)
        yield hub


class TestList:
    def test_every_size_and_precision_is_listed_with_its_memory(
        self, ask: Ask, store: Path
    ) -> None:
        content = ask("model", "list", "--json").json

        assert len(content["models"]) == len(MODELS) * len(PRECISIONS)
        assert content["stored"] == []
        [int4] = [m for m in content["models"] if m["name"] == "gemma-3-27b"]
        assert int4["announced_gb"] == 14.1
        assert int4["weights_bytes"] == pytest.approx(17.2e9, rel=0.05)
        assert int4["source"].startswith("hf://google/")
        assert int4["path"] is None

    def test_what_is_stored_is_marked(self, ask: Ask, store: Path) -> None:
        tiny_checkpoint.write(store / "gemma-3-270m-bf16")

        out = ask("model", "list").out
        assert "gemma-3-270m-bf16  *" in out
        assert f"* in the store, {store}" in out

    def test_what_an_earlier_version_rounded_is_named(self, ask: Ask, store: Path) -> None:
        path = tiny_checkpoint.write(store / "gemma-3-270m-int4-g32")
        write_provenance(path, {"tensor_types": [{"what": "rounded to int4, GPTQ"}]})

        out = ask("model", "list").out
        assert "gemma-3-270m  *" not in out
        assert "int4 group 32, rounded by an earlier version, " in out
        [stored] = ask("model", "list", "--json").json["stored"]
        assert (stored["name"], stored["outdated"]) == ("gemma-3-270m-int4-g32", True)
        assert "rounded by an earlier version" in ask("model", "info", stored["name"]).out


class TestAdd:
    def test_a_checkpoint_is_fetched_stored_and_found(
        self, ask: Ask, hub: Hub, store: Path
    ) -> None:
        done = ask("model", "add", f"hf://{CHECKPOINT}", "--json")

        assert done.code == 0
        path = Path(done.json["path"])
        assert path.parent == store
        assert done.json["revision"] == hub.commit(CHECKPOINT, "main")
        assert f"fetching {CHECKPOINT} at" in done.err
        for name in (f"hf://{CHECKPOINT}", path.name):
            assert ask("model", "info", name, "--json").json["path"] == str(path)
        assert ask("model", "verify", path.name, "--no-run").code == 0
        [stored] = ask("model", "list", "--json").json["stored"]
        assert stored["path"] == str(path)

    def test_a_gguf_file_is_converted_and_found(self, ask: Ask, hub: Hub, tmp_path: Path) -> None:
        content = tiny_gguf.write(tmp_path / "a.gguf", kinds=Q4_0).read_bytes()
        commit = hub.put("someone/tiny-GGUF", {"tiny-Q4_0.gguf": content})
        done = ask("model", "add", "hf://someone/tiny-GGUF", "--json")

        assert done.json["quantization"] == "int4 group 32"
        assert done.json["revision"] == commit
        assert "converting tiny-Q4_0 to int4" in done.err
        again = ask("model", "add", "hf://someone/tiny-GGUF:tiny-Q4_0.gguf", "--json")
        assert (again.json["path"], again.err) == (done.json["path"], "")
        # a copy of the same file is known by its content
        assert ask("model", "info", "a.gguf", "--json").json["path"] == done.json["path"]

    def test_what_it_prints_can_be_pasted(self, ask: Ask, hub: Hub) -> None:
        out = ask("model", "add", f"hf://{CHECKPOINT}").out

        assert Path(out.splitlines()[-1].removeprefix("→ ")).is_dir()

    def test_without_a_network_one_error_comes_at_once(
        self, ask: Ask, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        done = ask("model", "add", "gemma-3-27b")

        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("error: model: hf://google/gemma-3-27b-it-qat-q4_0-gguf:")
        assert "no connection to 127.0.0.1:9" in done.err
        assert len(done.err.splitlines()) == 3

    def test_a_gated_model_names_its_page_and_the_variable(self, ask: Ask, hub: Hub) -> None:
        hub.gated = {CHECKPOINT}
        done = ask("model", "add", f"hf://{CHECKPOINT}")

        assert done.code == 2
        assert f"accept the licence at {hub.url}/{CHECKPOINT}" in done.err
        assert "HF_TOKEN" in done.err

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["gemma-3-27"], "did you mean gemma-3-27b?"),
            (["gemma-3-270m", "--revision", "main"], "is not from a hub"),
            (["hf://nobody"], "is not an address on a hub"),
            (["absent.gguf"], "no such file: absent.gguf"),
        ],
    )
    def test_a_wrong_word_is_refused_before_anything_is_asked(
        self, ask: Ask, hub: Hub, arguments: list[str], said: str
    ) -> None:
        done = ask("model", "add", *arguments)

        assert done.code == 2
        assert said in done.err
        assert hub.asked == []


class TestInfo:
    def test_a_stored_model_says_where_it_lies(self, ask: Ask, store: Path) -> None:
        path = tiny_checkpoint.write(store / "gemma-3-270m-int4-g32-v3")
        content = ask("model", "info", "gemma-3-270m", "--json").json

        assert content["path"] == str(path)
        assert content["quantization"] == "int4 group 32"
        assert len(content["hash"]) == 64

    def test_one_that_is_not_stored_says_how_to_get_it(self, ask: Ask, store: Path) -> None:
        assert ask("model", "info", "gemma-3-12b", "--json").json["path"] is None
        out = ask("model", "info", "gemma-3-12b").out
        assert "rackmill model add gemma-3-12b" in out
        assert "hf://bartowski/google_gemma-3-12b-it-GGUF:google_gemma-3-12b-it-Q5_K_M.gguf" in out

    def test_a_folder_says_what_it_is(self, ask: Ask, tmp_path: Path) -> None:
        path = tiny_checkpoint.write(tmp_path / "tiny", bits=8)

        assert ask("model", "info", path, "--json").json["quantization"] == "int8 group 32"


class TestVerify:
    def test_a_whole_folder_passes(self, ask: Ask, tmp_path: Path) -> None:
        path = tiny_checkpoint.write(tmp_path / "tiny")
        done = ask("model", "verify", path, "--no-run", "--json")

        assert done.code == 0
        assert done.json["ok"] is True
        names = [check["name"] for check in done.json["checks"]]
        assert names == ["hashes", "config", "tensors", "tokenizer"]

    def test_a_damaged_one_fails_with_what_is_wrong(self, ask: Ask, tmp_path: Path) -> None:
        path = tiny_checkpoint.write(tmp_path / "tiny")
        weights = path / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-2])
        done = ask("model", "verify", path)

        assert done.code == 1
        assert "BAD  hashes     model.safetensors is not the file that was stored" in done.out
        assert "BAD  tensors    model.safetensors is cut off" in done.out
        assert "run        skipped" in done.out

    def test_a_folder_of_something_else_is_refused(self, ask: Ask, tmp_path: Path) -> None:
        (tmp_path / "photos").mkdir()
        done = ask("model", "verify", tmp_path / "photos")

        assert done.code == 2
        assert "is not a checkpoint" in done.err

    def test_one_that_was_never_added_is_refused_with_the_mend(self, ask: Ask, store: Path) -> None:
        done = ask("model", "verify", "gemma-3-4b")

        assert done.code == 2
        assert "rackmill model add gemma-3-4b" in done.err

    @pytest.mark.engine
    def test_a_real_engine_answers_twice_the_same(self, ask: Ask, model: ModelFolder) -> None:
        done = ask("model", "verify", model.path, "--json")

        assert done.code == 0, done.json
        run = done.json["checks"][-1]
        assert run["name"] == "run"
        assert "twice the same (16 tokens)" in run["detail"]


class TestConvert:
    def test_the_report_says_what_was_kept_by_type(self, ask: Ask, tmp_path: Path) -> None:
        tiny_gguf.write(tmp_path / "tiny.gguf", kinds=Q4_0)
        report = ask("model", "convert", "tiny.gguf", "out", "--json").json

        [linear] = [row for row in report["tensor_types"] if row["kind"] == "linear"]
        assert (linear["storage_type"], linear["what"]) == ("Q4_0", "codes kept")
        info = ask("model", "info", "./out").out
        assert "42 Q4_0 linear" in info
        assert ask("model", "info", "./out", "--json").json["source"] == "tiny.gguf"

    def test_a_folder_that_is_there_is_not_touched(self, ask: Ask, tmp_path: Path) -> None:
        source = tiny_gguf.write(tmp_path / "tiny.gguf")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "precious").write_text("mine")
        done = ask("model", "convert", source, tmp_path / "out")

        assert done.code == 2
        assert "exists and holds something else" in done.err
        assert [p.name for p in (tmp_path / "out").iterdir()] == ["precious"]

    def test_a_file_that_is_not_there_is_refused(self, ask: Ask, tmp_path: Path) -> None:
        assert "no such file: absent.gguf" in ask("model", "convert", "absent.gguf", "out").err

    @pytest.mark.parametrize(("content", "said"), [(None, "cannot be read"), ("\n", "no text")])
    def test_calibration_needs_texts(
        self, ask: Ask, tmp_path: Path, content: str | None, said: str
    ) -> None:
        if content is not None:
            (tmp_path / "texts.txt").write_text(content)
        done = ask("model", "convert", "a.gguf", "out", "--calibration", "texts.txt")

        assert done.code == 2
        assert said in done.err

    def test_what_is_no_gguf_leaves_nothing_behind(self, ask: Ask, tmp_path: Path) -> None:
        (tmp_path / "a.gguf").write_bytes(b"nothing of the kind" * 10)
        done = ask("model", "convert", "a.gguf", "made/out")

        assert done.code == 2
        assert "a.gguf is not a readable GGUF file" in done.err
        assert not (tmp_path / "made" / "out").exists()


def test_json_is_one_document_whatever_the_command(ask: Ask, store: Path) -> None:
    for arguments in (["list"], ["info", "gemma-3-1b"], ["info", "hf://a/b"]):
        done = ask("model", *arguments, "--json")
        assert isinstance(json.loads(done.out), dict)
        assert done.err == ""
