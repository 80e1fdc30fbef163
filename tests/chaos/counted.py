"""How many rows engines really answered, those of killed processes included.

A ``sitecustomize`` on PYTHONPATH, so that every Python of a run has it from its start: it waits
for an engine's module to be imported and has its ``step`` note each answer in a file of the
process. What is written stays when the process is killed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_VARIABLE = "CHAOS_ANSWERS"
_ENGINES = {
    "pipeline.engine.simulated.engine": "SimulatedEngine",
    "pipeline.engine.vllm.engine": "VllmEngine",
}


class Answers:
    """The count, over all processes that have ``environment``."""

    def __init__(self, folder: Path) -> None:
        self._counts = folder / "answers"
        self._counts.mkdir(parents=True)
        code = folder / "code"
        code.mkdir()
        shutil.copyfile(__file__, code / "sitecustomize.py")
        search = [str(code), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = {"PYTHONPATH": os.pathsep.join(search), _VARIABLE: str(self._counts)}

    @property
    def given(self) -> int:
        """Answers up to now."""
        return sum(path.stat().st_size for path in self._counts.iterdir())


def _install(counts: str) -> None:
    import importlib.abc
    import importlib.machinery
    import importlib.util
    import sys
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

    class Finder(importlib.abc.MetaPathFinder):
        """Finds engines' modules as Python does, and counts what they answer."""

        def find_spec(
            self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
        ) -> importlib.machinery.ModuleSpec | None:
            if name not in _ENGINES:
                return None
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            if spec is not None and spec.loader is not None:
                untouched = spec.loader.exec_module

                def exec_module(module: ModuleType) -> None:
                    untouched(module)
                    _count(getattr(module, _ENGINES[name]))

                spec.loader.exec_module = exec_module  # type: ignore[method-assign]
            return spec

    def _count(engine: Any) -> None:
        untouched = engine.step
        files: dict[int, int] = {}

        def step(self: Any) -> Any:
            completions = untouched(self)
            if completions:
                pid = os.getpid()
                if pid not in files:
                    files[pid] = os.open(f"{counts}/{pid}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
                os.write(files[pid], b"." * len(completions))
            return completions

        engine.step = step

    sys.meta_path.insert(0, Finder())


if __name__ == "sitecustomize" and _VARIABLE in os.environ:
    _install(os.environ[_VARIABLE])
