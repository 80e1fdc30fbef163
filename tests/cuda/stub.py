"""An environment in which vLLM's CUDA build believes in cards that are not there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.budget.cards.lookup import Card
from pipeline.engine.vllm.engine import environment
from tests.support.fake_gpu.fake_nvml.state import STATE, FakeCard, FakeDriver

_TOOLKIT, _CALLS = "FAKE_CUDA_TOOLKIT", "calls"
_FAKE_NVML = Path(__file__).parents[1] / "support/fake_gpu"
_ROOT = Path(__file__).parents[2]


def pretending(folder: Path, cards: Sequence[Card]) -> dict[str, str]:
    """The environment of a worker, with a driver library that does nothing and NVML showing
    ``cards``; with a CUDA toolkit in PATH that nobody is to use. ``folder``: for what that
    needs."""
    library = folder / "libcuda.so.1"
    source = Path(__file__).with_name("stub_driver.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    shown = [
        FakeCard(name=f"NVIDIA GeForce {card.title}", memory_bytes=card.vram_bytes,
                 capability=card.compute_capability)
        for card in cards
    ]  # fmt: skip
    toolkit = folder / "toolkit"
    for tool in ("nvcc", "ninja"):
        _write_tool(toolkit / "bin" / tool, toolkit)
    state = folder / "driver.json"
    FakeDriver(shown).write(state)
    own = {k: v for k, v in os.environ.items() if not k.startswith(("VLLM_", "CUDA_"))}
    return {
        **own,
        "PATH": f"{toolkit / 'bin'}:{os.environ['PATH']}",
        _TOOLKIT: str(toolkit),
        **environment(gpu=True, eager=False),
        STATE: str(state),
        "PYTHONPATH": f"{_FAKE_NVML}:{_ROOT}",
        "LD_LIBRARY_PATH": str(folder),
        # what vLLM found out about model classes, in half a minute each, is kept
        "VLLM_CACHE_ROOT": str(Path(sys.prefix) / "vllm-cache"),
    }


def _write_tool(path: Path, toolkit: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {path.name} $* >>{toolkit}/{_CALLS}\nexit 1\n")
    path.chmod(0o755)


def compilations() -> list[str]:
    """Calls of the toolkit that lies in the way, but for those that ask for its version (FlashInfer
    does so when it is imported, which vLLM's communicators do whether they use it or not)."""
    calls = Path(os.environ[_TOOLKIT], _CALLS)
    lines = calls.read_text().splitlines() if calls.exists() else []
    return [line for line in lines if not {"--version", "-V"} & set(line.split())]


def pretend_triton_has_a_driver() -> None:
    """Without one vLLM would fall back to its older model runner, which no card would use."""
    from triton.backends.nvidia.driver import CudaDriver

    CudaDriver.is_active = staticmethod(lambda: True)  # type: ignore[method-assign]
