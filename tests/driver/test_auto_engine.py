"""engine.kind: auto."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import Job
from pipeline.driver.plan import auto_engine
from pipeline.engine.gpu.nvml import Gpu
from pipeline.engine.gpu.usable import UsableCards
from tests.support.samples import job

_GPU = Gpu("NVIDIA GeForce RTX 3090", 24 << 30, (8, 6), index=0, driver="580.82")


def chosen(
    monkeypatch: pytest.MonkeyPatch, *gpus: Gpu, server: Path | None = None
) -> tuple[Job, list[str]]:
    monkeypatch.setattr(auto_engine, "offer", lambda: UsableCards(gpus, (), "cpu"))
    monkeypatch.setenv("PATH", str(server.parent if server else "/nowhere"))
    said: list[str] = []
    return auto_engine.with_known_engine(job(engine={"kind": "auto"}), said.append), said


def llama_server(folder: Path, *devices: str) -> Path:
    """One that can use such cards."""
    path = folder / "llama-server"
    lines = "\n".join(["Available devices:", *(f"  {name}: a card (8192 MiB)" for name in devices)])
    path.write_text(f"#!/bin/sh\necho '{lines}'\n")
    path.chmod(0o755)
    return path


def test_a_card_that_vllm_drives_is_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found, said = chosen(monkeypatch, _GPU, server=llama_server(tmp_path, "Vulkan0"))

    assert (found.engine.kind, said) == ("vllm", [])


def test_other_cards_are_llama_cpps_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found, said = chosen(monkeypatch, server=llama_server(tmp_path, "Vulkan0"))

    assert found.engine.kind == "llama.cpp"
    assert said == [
        "engine.kind: auto is llama.cpp here: vLLM cannot drive Vulkan0, and llama-server can"
    ]


def test_a_processor_is_vllms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found, _ = chosen(monkeypatch, server=llama_server(tmp_path))

    assert found.engine.kind == "vllm"


def test_without_llama_server_it_is_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = chosen(monkeypatch)

    assert found.engine.kind == "vllm"


def test_another_kind_stays() -> None:
    asked = job(engine={"kind": "simulated"})

    assert auto_engine.with_known_engine(asked) is asked
