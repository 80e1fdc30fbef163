"""Fetching from a hub: whole files or none, nothing twice, and one clear word when it fails."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import RackmillError, UsageError
from pipeline.model.store import hub as fetching
from pipeline.model.store.address import HubAddress
from tests.support.hub import Hub

MODEL = HubAddress("someone/tiny-GGUF", "tiny.gguf")
WEIGHTS = random.Random(0).randbytes(24 << 20)  # more than huggingface_hub reads at a time


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        for variable in ("HF_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
        yield hub


def fetch(folder: Path, address: HubAddress = MODEL) -> list[tuple[int, int]]:
    """Describe and fetch; the progress that was told."""
    seen: list[tuple[int, int]] = []
    repository = fetching.describe(address)
    files = [f for f in repository.files if address.file in ("", f.name)]
    fetching.fetch(repository, files, folder, lambda done, total: seen.append((done, total)))
    return seen


class TestWholeFiles:
    def test_what_is_fetched_is_what_the_hub_has(self, hub: Hub, tmp_path: Path) -> None:
        hub.put(MODEL.repository, {"tiny.gguf": WEIGHTS, "README.md": b"small"})

        seen = fetch(tmp_path / "got", HubAddress(MODEL.repository))

        assert (tmp_path / "got" / "tiny.gguf").read_bytes() == WEIGHTS
        assert (tmp_path / "got" / "README.md").read_bytes() == b"small"
        assert seen == sorted(seen)
        assert seen[-1] == (len(WEIGHTS) + 5, len(WEIGHTS) + 5)

    def test_a_branch_is_resolved_to_its_commit(self, hub: Hub) -> None:
        first = hub.put(MODEL.repository, {"tiny.gguf": b"1"})
        second = hub.put(MODEL.repository, {"tiny.gguf": b"2"})

        assert fetching.describe(MODEL).commit == second
        assert fetching.describe(MODEL.at(first)).commit == first

    def test_a_name_that_leads_out_of_the_folder_is_passed_over(self, hub: Hub) -> None:
        hub.put(MODEL.repository, {"../evil.gguf": b"", "/etc/evil.gguf": b"", "a/ok.gguf": b"1"})

        assert [f.name for f in fetching.describe(MODEL).files] == ["a/ok.gguf"]

    def test_a_break_in_the_middle_is_resumed_where_it_was(self, hub: Hub, tmp_path: Path) -> None:
        hub.put(MODEL.repository, {"tiny.gguf": WEIGHTS})
        hub.break_at = {"tiny.gguf": [15 << 20]}

        fetch(tmp_path)

        assert (tmp_path / "tiny.gguf").read_bytes() == WEIGHTS
        [whole, rest] = hub.ranges("tiny.gguf")
        assert whole == ""
        assert rest == f"bytes={10 << 20}-"

    def test_a_second_attempt_goes_on_where_the_first_gave_up(
        self, hub: Hub, tmp_path: Path
    ) -> None:
        hub.put(MODEL.repository, {"tiny.gguf": WEIGHTS})
        hub.break_at = {"tiny.gguf": [15 << 20, *[0] * 5]}

        with pytest.raises(RackmillError, match="goes on where it stopped"):
            fetch(tmp_path)
        assert not (tmp_path / "tiny.gguf").exists()
        hub.asked.clear()
        seen = fetch(tmp_path)

        assert hub.ranges("tiny.gguf") == [f"bytes={10 << 20}-"]
        assert seen[0][0] == 10 << 20
        assert (tmp_path / "tiny.gguf").read_bytes() == WEIGHTS

    def test_what_is_there_is_not_fetched_again(self, hub: Hub, tmp_path: Path) -> None:
        hub.put(MODEL.repository, {"tiny.gguf": WEIGHTS})
        fetch(tmp_path)
        hub.asked.clear()

        fetch(tmp_path)
        assert hub.ranges("tiny.gguf") == []

    @pytest.mark.parametrize("content", [WEIGHTS, b"a small file"])
    def test_other_content_than_announced_is_never_kept(
        self, hub: Hub, tmp_path: Path, content: bytes
    ) -> None:
        hub.put(MODEL.repository, {"tiny.gguf": content})
        hub.lies = {"tiny.gguf": bytes([content[0] ^ 1]) + content[1:]}

        with pytest.raises(RackmillError, match=r"arrived damaged: SHA-\d+ \w+ instead of"):
            fetch(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_listing_without_sizes_is_completed_from_the_files(
        self, hub: Hub, tmp_path: Path
    ) -> None:
        hub.put(MODEL.repository, {"tiny.gguf": WEIGHTS})
        hub.listing_has_sizes = False
        hub.lies = {"tiny.gguf": WEIGHTS[::-1]}

        with pytest.raises(RackmillError, match="arrived damaged"):
            fetch(tmp_path)

    def test_a_file_in_the_cache_of_other_tools_is_taken_from_there(
        self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit = hub.put(MODEL.repository, {"tiny.gguf": WEIGHTS})
        snapshot = tmp_path / "cache" / "models--someone--tiny-GGUF" / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (snapshot / "tiny.gguf").write_bytes(WEIGHTS)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))

        fetch(tmp_path / "got")
        assert hub.ranges("tiny.gguf") == []
        assert (tmp_path / "got" / "tiny.gguf").read_bytes() == WEIGHTS


class TestRefusals:
    def refusal(self, address: HubAddress, folder: Path) -> str:
        with pytest.raises(UsageError) as caught:
            fetch(folder, address)
        return str(caught.value)

    def test_a_gated_model_says_where_to_accept_its_licence(self, hub: Hub, tmp_path: Path) -> None:
        hub.put(MODEL.repository, {"tiny.gguf": WEIGHTS})
        hub.gated = {MODEL.repository}

        said = self.refusal(MODEL, tmp_path)
        assert "accepted its licence" in said
        assert f"{hub.url}/{MODEL.repository}" in said
        assert "export HF_TOKEN" in said

    def test_a_token_without_access_is_told_from_none(
        self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.put(MODEL.repository, {"tiny.gguf": WEIGHTS})
        hub.gated = {MODEL.repository}
        monkeypatch.setenv("HF_TOKEN", "hf_secret")

        said = self.refusal(MODEL, tmp_path)
        assert "HF_TOKEN is set, but its account has no access" in said
        assert "hf_secret" not in said

    def test_the_right_token_opens_it(
        self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.put(MODEL.repository, {"tiny.gguf": WEIGHTS})
        hub.gated = {MODEL.repository}
        monkeypatch.setenv("HF_TOKEN", hub.token)

        fetch(tmp_path)
        assert (tmp_path / "tiny.gguf").read_bytes() == WEIGHTS

    def test_a_token_in_a_file_is_not_used(
        self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.put(MODEL.repository, {"tiny.gguf": WEIGHTS})
        (tmp_path / "token").write_text("hf_from_a_file")
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))

        fetch(tmp_path / "got")
        assert all("Authorization" not in a.headers for a in hub.asked)

    def test_an_unknown_repository(self, hub: Hub, tmp_path: Path) -> None:
        said = self.refusal(HubAddress("nobody/nothing"), tmp_path)

        assert "nobody/nothing is unknown to the hub, or hidden from you" in said

    def test_an_unknown_revision(self, hub: Hub, tmp_path: Path) -> None:
        hub.put(MODEL.repository, {"tiny.gguf": WEIGHTS})

        assert "has no revision 'v9'" in self.refusal(MODEL.at("v9"), tmp_path)

    def test_offline_is_said_without_asking(
        self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")

        assert "HF_HUB_OFFLINE is set" in self.refusal(MODEL, tmp_path)
        assert hub.asked == []

    def test_no_network_is_said_at_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        started = time.monotonic()

        with pytest.raises(RackmillError, match=r"no connection to 127\.0\.0\.1:9"):
            fetch(tmp_path)
        assert time.monotonic() - started < 8
        assert capfd.readouterr() == ("", "")

    def test_a_server_that_is_no_hub_is_told_from_one(self, hub: Hub, tmp_path: Path) -> None:
        hub.page = b"<html>Welcome to our hotel! Please log in.</html>"

        with pytest.raises(RackmillError, match="does not answer as a hub does"):
            fetch(tmp_path)

    def test_too_little_disk_is_said_before_fetching(self, tmp_path: Path) -> None:
        with pytest.raises(RackmillError, match=r"needs 1000000\.0 GB, but .* free"):
            fetching.check_space(tmp_path / "not" / "yet", 10**15, "fetching x")
