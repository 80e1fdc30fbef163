"""What engines on CUDA get keeps vLLM away from CUDA's compiler. Asked of vLLM's own functions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.engine.vllm.engine import environment
from tests.support.fake_cards import RTX_4060_LAPTOP, FakeCards

# A toolkit that is in PATH and where one usually is, FlashInfer and DeepGEMM seem to be installed
_ASK = """
import importlib.util, json, sys, types
# the kernels of the CUDA build, which is not what is installed
sys.modules["vllm._C_stable_libtorch"] = types.ModuleType("vllm._C_stable_libtorch")
there = importlib.util.find_spec
def find(name, *given):
    return object() if name in ("flashinfer", "deep_gemm") else there(name, *given)
importlib.util.find_spec = find
from vllm import envs
from vllm.utils import flashinfer
from vllm.platforms.cuda import CudaPlatform
print("answers:", json.dumps({
    "flashinfer": flashinfer.has_flashinfer(),
    "sampler": envs.VLLM_USE_FLASHINFER_SAMPLER,
    "deep_gemm": envs.VLLM_USE_DEEP_GEMM or envs.VLLM_MOE_USE_DEEP_GEMM,
    "warmup": envs.VLLM_DEEP_GEMM_WARMUP,
    "all_reduce": envs.VLLM_ALLREDUCE_USE_FLASHINFER,
    "pinned": CudaPlatform.is_pin_memory_available(),
}))
"""


def _answers(variables: dict[str, str], folder: Path) -> dict:
    for name in ("nvcc", "ninja"):
        (folder / name).write_text("#!/bin/sh\nexit 1\n")
        (folder / name).chmod(0o755)
    (folder / "bin").mkdir()
    (folder / "bin/nvcc").symlink_to(folder / "nvcc")
    path = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "CUDA_HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", _ASK],
        env=os.environ | path | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    line = [line for line in done.stdout.splitlines() if line.startswith("answers:")]
    assert line, done.stderr
    return json.loads(line[0].removeprefix("answers:"))


@pytest.mark.parametrize(
    ("variables", "reached"),
    [(environment(gpu=True, eager=False), False), ({}, True)],
    ids=["as engines get it", "as vLLM comes"],
)
def test_no_way_leads_to_nvcc_and_memory_is_pinned_under_wsl2(
    variables: dict, reached: bool, fake_cards: Callable[..., FakeCards], tmp_path: Path
) -> None:
    """The second case shows that the first one asks the right questions."""
    fake_cards(RTX_4060_LAPTOP, wsl=True)

    assert _answers(variables, tmp_path) == {
        "flashinfer": reached,
        "sampler": reached,
        "deep_gemm": reached,
        "warmup": "relax" if reached else "skip",
        "all_reduce": reached,
        "pinned": not reached,
    }
