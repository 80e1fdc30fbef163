"""What `rackmill doctor` says on each kind of PC with an NVIDIA card: what is missing, and the
command that fixes it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.cli.models_and_machines.doctor import findings
from tests.support.fake_cards import (
    GIB,
    RTX_2080_TI,
    RTX_3060,
    RTX_3090,
    RTX_4060_LAPTOP,
    FakeCard,
    FakeCards,
    FakeProcess,
)
from tests.support.processes import Finished

_Show = Callable[..., FakeCards]


@dataclass(frozen=True)
class Said:
    code: int
    findings: list[dict]

    def of(self, subject: str) -> dict:
        return next(f for f in self.findings if f["subject"] == subject)

    def has(self, subject: str) -> bool:
        return any(f["subject"] == subject for f in self.findings)


@pytest.fixture
def doctor(ask: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch) -> Callable[[], Said]:
    """`rackmill doctor --json`, without importing vLLM to see whether that works."""
    monkeypatch.setattr(
        "pipeline.cli.models_and_machines.doctor.examine._import_trouble", lambda: None
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())

    def examine() -> Said:
        finished = ask("doctor", "--json")
        content = json.loads(finished.out)
        assert all(f["fix"] for f in content["findings"] if not f["ok"])
        return Said(finished.code, content["findings"])

    return examine


def test_a_turing_card_is_left_alone_and_the_processor_works(doctor, fake_cards: _Show) -> None:
    fake_cards(RTX_2080_TI, build="cpu")

    said = doctor()
    assert said.of("GPU 0")["ok"]
    assert "has no bfloat16" in said.of("GPU 0")["says"]
    assert "8.0, an RTX 30xx or newer" in said.of("GPU 0")["says"]
    assert said.of("vLLM")["ok"]
    assert not said.has("compiler")


def test_the_cuda_build_on_a_turing_card_is_wrong(doctor, fake_cards: _Show) -> None:
    fake_cards(RTX_2080_TI, build="cuda")

    said = doctor()
    assert said.code == 1
    assert "has no bfloat16" in said.of("vLLM")["says"]
    assert "RACKMILL_VARIANT=cpu ./infra/setup" in said.of("vLLM")["fix"]


def test_a_driver_that_is_too_old_is_named_with_the_one_that_is_needed(
    doctor, fake_cards: _Show
) -> None:
    fake_cards(RTX_3060, version="535.183.01", build="cpu")

    said = doctor()
    assert said.code == 1
    assert "535.183.01" in said.of("driver")["says"]
    assert "580" in said.of("driver")["says"]
    assert "nvidia.com/drivers" in said.of("driver")["fix"]
    assert "RTX 3060" in said.of("GPU 0")["says"]


def test_a_compiler_that_is_missing_is_named_with_its_package(
    doctor, fake_cards: _Show, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cards(RTX_3090, headers=False)
    for name in ("apt-get",):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)

    said = [f for f in doctor().findings if f["subject"] == "compiler"]
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert [f["ok"] for f in said] == [False, False]
    assert said[0]["fix"] == "sudo apt install gcc"
    assert f"sudo apt install python{python}-dev" in said[1]["fix"]


def test_a_laptop_under_wsl2(doctor, fake_cards: _Show) -> None:
    fake_cards(RTX_4060_LAPTOP, version="581.15", wsl=True)

    said = doctor()
    assert "RTX 4060 Laptop (8 GB)" in said.of("GPU 0")["says"]
    assert "plug it in" in said.of("GPU 0")["fix"]
    assert "microsoft" in said.of("WSL2")["says"]
    assert said.of("compiler")["ok"]


def test_an_old_driver_under_wsl2_is_windows_to_update(doctor, fake_cards: _Show) -> None:
    fake_cards(RTX_4060_LAPTOP, version="566.14", wsl=True, build="cpu")

    assert "on Windows (not in WSL)" in doctor().of("driver")["fix"]


@pytest.mark.parametrize(
    ("error", "around", "says", "fix"),
    [
        ("LIB_RM_VERSION_MISMATCH", {}, "the kernel still runs the old one", "reboot"),
        ("LIB_RM_VERSION_MISMATCH", {"container": True}, "old one", "restart the container"),
        ("DRIVER_NOT_LOADED", {}, "installed, but not loaded", "modprobe nvidia"),
        ("NO_PERMISSION", {}, "may not use", "usermod -aG"),
        ("LIBRARY_NOT_FOUND", {}, "without its driver", "nvidia-driver-580-open"),
        ("LIBRARY_NOT_FOUND", {"nouveau": True}, "nouveau", "nvidia-driver-580-open"),
        ("LIBRARY_NOT_FOUND", {"container": True}, "container does not see it", "--gpus all"),
        ("LIBRARY_NOT_FOUND", {"wsl": True}, "/usr/lib/wsl/lib", "ldconfig"),
        ("UNKNOWN", {}, "does not answer (NVML: unknown)", "reboot"),
    ],
)
def test_a_driver_that_is_broken_is_no_machine_without_gpu(
    error: str, around: dict, says: str, fix: str, doctor, fake_cards: _Show
) -> None:
    fake_cards(RTX_3090, error=error, build="cpu", **around)

    said = doctor()
    assert said.code == 1
    assert says in said.of("driver")["says"]
    assert fix in said.of("driver")["fix"]


def test_a_machine_without_any_card_lacks_nothing(doctor, fake_cards: _Show) -> None:
    fake_cards(error="LIBRARY_NOT_FOUND", build="cpu")

    said = doctor()
    assert said.of("GPU")["ok"]
    assert not said.has("driver")


def test_of_two_cards_the_one_that_serves_is_used(doctor, fake_cards: _Show) -> None:
    fake_cards(RTX_2080_TI, RTX_3090)

    said = doctor()
    assert "left alone" in said.of("GPU 0")["says"]
    assert "left alone" not in said.of("GPU 1")["says"]
    assert said.of("vLLM")["ok"]


def test_who_holds_a_card_is_named_and_what_still_fits(doctor, fake_cards: _Show) -> None:
    game = FakeProcess(os.getpid(), 19 * GIB, graphics=True)
    fake_cards(replace(RTX_3090, used_bytes=20 * GIB, processes=[game, FakeProcess(1 << 30, GIB)]))

    memory = doctor().of("memory 0")
    assert "4.0 GiB of 24.0 GiB are free" in memory["says"]
    assert f"(pid {os.getpid()}, 19.0 GiB)" in memory["says"]
    assert "of another user or container" in memory["says"]
    assert "room for gemma-3-1b in int4" in memory["fix"]
    assert "gemma-3-27b" in memory["fix"]


def test_a_card_that_is_full_of_a_game_is_wrong(doctor, fake_cards: _Show) -> None:
    fake_cards(replace(RTX_3090, used_bytes=int(23.5 * GIB)))

    memory = doctor().of("memory 0")
    assert not memory["ok"]
    assert "close what holds it" in memory["fix"]


def test_the_cpu_build_beside_a_card_that_could_serve_is_wrong(doctor, fake_cards: _Show) -> None:
    fake_cards(RTX_3090, build="cpu")

    vllm = doctor().of("vLLM")
    assert not vllm["ok"]
    assert "the CPU build, beside RTX 3090" in vllm["says"]
    assert vllm["fix"] == "./infra/setup installs the CUDA build"


def test_the_cuda_build_whose_cards_are_hidden_is_wrong(
    doctor, fake_cards: _Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cards(RTX_3090)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")

    said = doctor()
    assert "hides every card" in said.of("vLLM")["says"]
    assert "hidden by CUDA_VISIBLE_DEVICES=-1" in said.of("GPU 0")["says"]


def test_a_card_that_fell_off_the_bus_is_told_beside_those_that_work(
    doctor, fake_cards: _Show
) -> None:
    fake_cards(replace(RTX_3090, lost=True), RTX_3090)

    said = doctor()
    assert "GPU 0 has fallen off the bus" in said.of("driver")["says"]
    assert "dmesg" in said.of("driver")["fix"]
    assert said.of("GPU 1")["ok"]
    assert said.of("vLLM")["ok"]


def test_a_card_that_nobody_knows_is_said_to_be_one(doctor, fake_cards: _Show) -> None:
    fake_cards(FakeCard("NVIDIA GeForce RTX 6070", 16 * GIB, capability=(13, 0)))

    assert "not in our table" in doctor().of("GPU 0")["fix"]


def test_parts_of_a_card_are_refused(
    ask: Callable[..., Finished], fake_cards: _Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cards(RTX_3090)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-GPU-1/2/3")

    finished = ask("doctor")
    assert finished.code == 2
    assert "a part of a card (MIG)" in finished.err


class TestBesideTheCards:
    @pytest.mark.parametrize(("free", "ok"), [(64 << 20, False), (1 << 30, True)])
    def test_shared_memory_that_is_too_small(self, free: int, ok: bool) -> None:
        assert findings.shm_finding(free, container=False).ok is ok
        assert "--shm-size" in findings.shm_finding(1, container=True).fix

    def test_wsl2_with_an_old_kernel_little_memory_and_models_on_windows(self) -> None:
        found = findings.wsl_finding("4.19.84-microsoft-standard", 4 * GIB, "/mnt/c/models")

        assert not found.ok
        assert all(w in found.fix for w in ("wsl --update", ".wslconfig", "RACKMILL_HOME"))

    def test_wsl2_as_it_should_be(self) -> None:
        found = findings.wsl_finding("5.15.167.4-microsoft-standard-WSL2", 32 * GIB, "/home/me/m")

        assert (found.ok, found.fix) == (True, "")


@pytest.mark.parametrize("error", [None, "LIB_RM_VERSION_MISMATCH"])
def test_the_processor_is_promised_only_where_engines_run_on_it(
    doctor, fake_cards: _Show, error: str | None
) -> None:
    cards = [] if error is None else [RTX_3090]
    fake_cards(*cards, error=error)
    assert "processor" not in doctor().of("GPU")["says"]
    fake_cards(*cards, error=error, build="cpu")
    assert doctor().of("GPU")["says"].endswith(": engines run on the processor")
