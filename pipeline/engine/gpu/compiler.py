"""What Triton needs to run kernels on a card: a C compiler, and the headers of this very Python.

As Triton looks for them (3.7, ``triton/runtime/build.py``): ``CC``, else gcc, else clang; and
``Python.h`` where Python says its headers are. Nothing of CUDA's toolkit is needed. Standard
library only.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .faults import Fault

_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


@dataclass(frozen=True)
class BuildTools:
    """``compiler``: its path, None if there is none; ``named``: what ``CC`` names. ``headers``: the
    folder in which ``Python.h`` has to be."""

    compiler: str | None
    headers: str
    named: str | None = None


def build_tools() -> BuildTools:
    """Those of this machine and of the Python that runs this."""
    named = os.environ.get("CC")
    if named is not None:
        words = shlex.split(named)
        compiler = shutil.which(words[0]) if words else None
    else:
        compiler = shutil.which("gcc") or shutil.which("clang")
    scheme = sysconfig.get_default_scheme()
    headers = sysconfig.get_paths("posix_prefix" if scheme == "posix_local" else scheme)["include"]
    return BuildTools(compiler, headers, named)


def missing_tools(tools: BuildTools) -> list[Fault]:
    """What of them is not there, with the command that installs it."""
    found = []
    if tools.compiler is None:
        says = "there is no C compiler (gcc or clang), which Triton needs to start"
        fix = _install("compiler")
        if tools.named is not None:
            says = f"CC names {tools.named!r}, which is no program here; Triton needs a C compiler"
            fix = f"unset CC, or: {fix}"
        found.append(Fault(says, fix))
    if not Path(tools.headers, "Python.h").exists():
        says = f"Python {_PYTHON} has no headers ({tools.headers}/Python.h): Triton needs them"
        found.append(Fault(says, _install("headers")))
    return found


# package manager -> (of a C compiler, of the headers of Python {0}, {1} without its dot)
_MANAGERS: Mapping[str, tuple[str, str]] = {
    "apt-get": ("sudo apt install gcc", "sudo apt install python{0}-dev"),
    "dnf": ("sudo dnf install gcc", "sudo dnf install python{0}-devel"),
    "pacman": ("sudo pacman -S gcc", "sudo pacman -S python"),
    "zypper": ("sudo zypper install gcc", "sudo zypper install python{1}-devel"),
}


def _install(what: str) -> str:
    """With the system's package manager; of all that are known where there is not one of them."""
    manager = next((name for name in _MANAGERS if shutil.which(name)), None)
    known = [manager] if manager else list(_MANAGERS)
    commands = [_MANAGERS[name][what == "headers"] for name in known]
    text = ", or ".join(commands).format(_PYTHON, _PYTHON.replace(".", ""))
    if what == "headers":
        text += "; or use a Python that brings them: uv python install"
    return text
