"""Where this machine's NVIDIA card, if any, is seen from: Linux itself, WSL2, or a container.

Standard library only: set-up asks before anything is installed.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

WSL_LIBRARIES = "/usr/lib/wsl/lib"  # where WSL2 puts the Windows driver's part for Linux
_CONTAINER_SIGNS = ("/.dockerenv", "/run/.containerenv")
_PCI_DEVICES = "/sys/bus/pci/devices"
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # PCI's numbers of the maker and of the class


@dataclass(frozen=True)
class Surroundings:
    """``nvidia_on_bus``: the PCI bus shows a card of NVIDIA's, driver or not (WSL2's bus shows
    none). ``nouveau``: Linux's own driver is loaded. ``wsl_library``: WSL2 has brought NVML."""

    wsl: bool = False
    container: bool = False
    nvidia_on_bus: bool = False
    nouveau: bool = False
    wsl_library: bool = False


def in_wsl() -> bool:
    """As vLLM finds out (``platforms/interface.py``)."""
    return "microsoft" in " ".join(platform.uname()).lower()


def surroundings() -> Surroundings:
    """Of this process."""
    return Surroundings(
        wsl=in_wsl(),
        container=any(Path(sign).exists() for sign in _CONTAINER_SIGNS),
        nvidia_on_bus=_nvidia_on_bus(),
        nouveau=Path("/sys/module/nouveau").exists(),
        wsl_library=Path(WSL_LIBRARIES, "libnvidia-ml.so.1").exists(),
    )


def _nvidia_on_bus() -> bool:
    for device in Path(_PCI_DEVICES).glob("*"):
        try:
            maker = (device / "vendor").read_text(encoding="ascii").strip()
            kind = (device / "class").read_text(encoding="ascii").strip()
        except OSError:
            continue
        if maker == _NVIDIA and kind.startswith(_DISPLAY):
            return True
    return False
