"""Who waits for an engine hears that vLLM compiles for it, and only then."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pipeline.engine.vllm.compiling import SAYS, CompileWatch, compiled_code


def finish(folder: Path, age: float = 0.0) -> None:
    """What vLLM writes when it has compiled, ``age`` seconds ago."""
    file = folder / "rank_0_0" / "model"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"code")
    for path in (file, file.parent, folder):
        os.utime(path, (time.time() - age,) * 2)


def watch(folder: Path, said: list[str]) -> CompileWatch:
    return CompileWatch(said.append, folder, look_seconds=0.01)


def heard(said: list[str]) -> bool:
    end = time.monotonic() + 10
    while not said and time.monotonic() < end:
        time.sleep(0.01)
    return bool(said)


def test_compiling_is_told_when_it_begins_and_timed_to_its_end(tmp_path: Path) -> None:
    said: list[str] = []
    with watch(tmp_path, said) as watching:
        (tmp_path / "a" / "inductor_cache").mkdir(parents=True)  # as vLLM does before it looks
        assert heard(said)
        finish(tmp_path / "a")
    assert said == [SAYS]
    assert 0 < watching.seconds < 60


def test_code_that_is_there_already_is_not_compiled(tmp_path: Path) -> None:
    said: list[str] = []
    finish(tmp_path / "a", age=3600)
    with watch(tmp_path, said) as watching:
        (tmp_path / "a" / "inductor_cache").mkdir()
        time.sleep(0.05)
    assert said == []
    assert watching.seconds == 0


def test_compiling_that_was_broken_off_is_begun_again(tmp_path: Path) -> None:
    said: list[str] = []
    cache = tmp_path / "a" / "inductor_cache"
    cache.mkdir(parents=True)
    for path in (cache, cache.parent):
        os.utime(path, (time.time() - 3600,) * 2)
    with watch(tmp_path, said):
        (cache / "kernel.py").write_text("")
        assert heard(said)


def test_without_a_cache_nothing_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    with watch(tmp_path / "none", said) as watching:
        time.sleep(0.03)
    assert (said, watching.seconds) == ([], 0.0)


def test_the_cache_is_where_vllm_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm import envs

    for name in ("VLLM_CACHE_ROOT", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for variables in ({}, {"XDG_CACHE_HOME": "/x"}, {"VLLM_CACHE_ROOT": "/v"}):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        root = Path(envs.environment_variables["VLLM_CACHE_ROOT"]())
        assert compiled_code() == root / "torch_compile_cache" / "torch_aot_compile"
