"""The fake library put beneath the bindings of NVML: nvidia-ml-py's, and those of Ray and vLLM."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from . import library
from .machine import disguise

BINDINGS = (
    "pynvml",
    "ray._private.thirdparty.pynvml.pynvml",
    "vllm.third_party.pynvml",
)


def underlay(binding: Any) -> None:
    """From now on ``binding`` talks to the fake driver, wherever this process is shown one."""
    if hasattr(binding, "_real_library"):
        return
    binding._real_library = (binding._LoadNvmlLibrary, binding._nvmlGetFunctionPointer)
    load, pointer = binding._real_library

    def fake_load() -> None:
        if not library.shown():
            load()
        elif library.missing():
            raise binding.NVMLError(binding.NVML_ERROR_LIBRARY_NOT_FOUND)

    def fake_pointer(name: str) -> Any:
        if not library.shown():
            return pointer(name)
        if library.missing():
            raise binding.NVMLError(binding.NVML_ERROR_UNINITIALIZED)
        found = library.function(name)
        if found is None:
            raise binding.NVMLError(binding.NVML_ERROR_FUNCTION_NOT_FOUND)
        return found

    binding._LoadNvmlLibrary, binding._nvmlGetFunctionPointer = fake_load, fake_pointer


class _Underlaid(importlib.abc.Loader):
    def __init__(self, real: Any) -> None:
        self._real = real

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        underlay(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in BINDINGS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Underlaid(spec.loader)
        return spec


def install() -> None:
    """For this process: bindings that are imported already, and those that will be."""
    disguise()
    for name in BINDINGS:
        if name in sys.modules:
            underlay(sys.modules[name])
    if not any(type(finder).__name__ == _Finder.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
