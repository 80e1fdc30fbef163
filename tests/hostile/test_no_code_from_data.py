"""Nothing in rackmill turns data into code: read from its own source, line by line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipeline

_SOURCES = sorted(Path(pipeline.__file__).parent.rglob("*.py"))
# modules that make objects, and so calls, out of bytes
_MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
_NAMES = {"eval", "exec", "compile", "__import__", "breakpoint", "input"}
_METHODS = {
    ("torch", "load"), ("torch.jit", "load"), ("np", "load"), ("numpy", "load"), ("os", "system"),
    ("os", "popen"), ("yaml", "load"), ("yaml", "unsafe_load"), ("yaml", "full_load"),
    ("pd", "read_pickle"), ("pandas", "read_pickle"), ("ray", "cloudpickle"),
}  # fmt: skip
_ARGUMENTS = {"shell": True, "allow_pickle": True, "trust_remote_code": True, "weights_only": False}
# importing what a catalogue of ours names, and asking an engine's own library to load itself
_IMPORTERS = {
    "pipeline/__init__.py",  # names of its own, imported when they are asked for
    "model/store/resolve.py",
    "engine/load.py",
    "engine/vllm/torch_relatives.py",  # names of its own
    "input/formats/protocol.py",
    "admission/policy.py",
}


def _calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def _faults(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            if name.partition(".")[0] in _MODULES:
                yield f"imports {name}"
        if isinstance(node, ast.keyword) and node.arg in _ARGUMENTS:
            value = node.value
            if isinstance(value, ast.Constant) and value.value is _ARGUMENTS[node.arg]:
                yield f"says {node.arg}={value.value}"
    for _, called in _calls(tree):
        owner, _, method = called.rpartition(".")
        if called in _NAMES or (owner, method) in _METHODS:
            yield f"calls {called}"
        if method == "import_module" and not any(str(path).endswith(p) for p in _IMPORTERS):
            yield f"calls {called}"


@pytest.mark.parametrize("path", _SOURCES, ids=lambda p: str(p.relative_to(_SOURCES[0].parent)))
def test_no_module_turns_data_into_code(path: Path) -> None:
    assert list(_faults(path)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from marshal import loads", "eval('1')", "import os\nos.system('x')",
        "import torch\ntorch.load('x')", "import yaml\nyaml.load('x')", "run('x', shell=True)",
        "EngineArgs(trust_remote_code=True)", "import numpy as np\nnp.load('x', allow_pickle=True)",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(source: str, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(source)
    assert list(_faults(tmp_path / "evil.py"))


def test_the_engine_is_told_to_run_no_code_of_a_model() -> None:
    source = (Path(pipeline.__file__).parent / "engine/vllm/engine.py").read_text()
    assert '"trust_remote_code": False' in source
    assert '"load_format"] = "safetensors"' in source
