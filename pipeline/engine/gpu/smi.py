"""What ``nvidia-smi`` says of this machine's cards, for set-up, which has no NVML binding yet.
Standard library only."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .faults import Fault, card_lost, driver_fault
from .surroundings import WSL_LIBRARIES, Surroundings
from .variant import SeenCard

_SECONDS = 60  # the driver may have to be loaded first
# how its failures read, and what NVML calls them
_FAILURES = (
    ("driver/library version mismatch", "LIB_RM_VERSION_MISMATCH"),
    ("insufficient permissions", "NO_PERMISSION"),
    ("couldn't communicate with the nvidia driver", "DRIVER_NOT_LOADED"),
    ("couldn't find libnvidia-ml.so", "LIBRARY_NOT_FOUND"),
    ("driver not loaded", "DRIVER_NOT_LOADED"),
    ("gpu is lost", "GPU_IS_LOST"),
)


@dataclass(frozen=True)
class SmiAnswer:
    """``driver``: its version, "" if it did not say."""

    cards: tuple[SeenCard, ...] = ()
    driver: str = ""
    faults: tuple[Fault, ...] = ()


def ask_smi(around: Surroundings) -> SmiAnswer:
    """Ask ``nvidia-smi``, wherever it lies (under WSL2 it may not be in PATH)."""
    program = shutil.which("nvidia-smi")
    if program is None and Path(WSL_LIBRARIES, "nvidia-smi").exists():
        program = str(Path(WSL_LIBRARIES, "nvidia-smi"))
    if program is None:
        return _nothing("LIBRARY_NOT_FOUND", around)
    text = ""
    for fields in ("name,driver_version,compute_cap", "name,driver_version"):
        try:
            done = subprocess.run(
                [program, f"--query-gpu={fields}", "--format=csv,noheader"],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return _nothing("TIMEOUT", around)
        text = done.stdout + done.stderr
        if done.returncode == 0:
            return read_answer(done.stdout)
        if "not a valid field" not in text:
            break
    if "no devices were found" in text.lower():
        return SmiAnswer()
    known = (error for words, error in _FAILURES if words in text.lower())
    return _nothing(next(known, "UNKNOWN"), around)


def read_answer(text: str) -> SmiAnswer:
    """``name, driver_version[, compute_cap]`` of each card, a line each."""
    cards, faults, driver = [], [], ""
    for line in text.splitlines():
        name, *rest = [part.strip() for part in line.split(",")]
        if "lost" in line.lower() or not name or name.startswith("["):
            faults.append(card_lost("a card"))
            continue
        driver = driver or (rest[0] if rest and rest[0][:1].isdigit() else "")
        major, _, minor = (rest[1] if len(rest) > 1 else "").partition(".")
        told = major.isdigit() and minor.isdigit()
        cards.append(SeenCard(name, (int(major), int(minor)) if told else None))
    return SmiAnswer(tuple(cards), driver, tuple(faults))


def _nothing(error: str, around: Surroundings) -> SmiAnswer:
    fault = driver_fault(error, around)
    return SmiAnswer(faults=(fault,) if fault else ())
