"""A real engine in trouble: too little memory, and a core that dies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_JOB = """\
name: short
model: gemma-3-270m
input: {path: rows}
prompt: "Continue: {text}"
sampling: {max_tokens: 4}
output: {path: out, keep: [id]}
engine: {kv_cache_memory_bytes: 1099511627776}
"""


@pytest.mark.engine
@pytest.mark.long  # that the real engine's words are understood: engine/test_fit_engine
@pytest.mark.ray
def test_an_engine_that_asks_for_too_much_memory_is_loaded_with_less(
    tmp_path: Path, launcher, write_shards, read_output
) -> None:
    write_shards(tmp_path / "rows", 8)
    (tmp_path / "job.yaml").write_text(_JOB)
    finished = launcher.run("run", "job.yaml", "--json", cwd=tmp_path)

    assert finished.code == 0, finished.err
    assert "worker-0: too little memory, on with a KV cache of " in finished.err
    assert "is less than requested memory for kv (1024.0 GiB)" in finished.err
    assert read_output(tmp_path / "out")["id"].to_pylist() == list(range(8))


_DEAD_CORE = """
import os, sys
from pipeline.engine.machine.host import cpu_environment
from pipeline.engine.vllm.engine import VllmEngine, environment

if __name__ == "__main__":
    os.environ.update(environment(gpu=True, eager=True) | cpu_environment(0, 1))
    import psutil
    from pipeline.errors import EngineFailed
    from pipeline.model.store.resolve import resolve
    from pipeline.rows.request import Request
    from pipeline.job.sampling import Sampling

    settings = {"enforce_eager": True, "block_size": 32, "max_num_seqs": 4,
                "kv_cache_memory_bytes": 1 << 28, "max_model_len": 1024}
    engine = VllmEngine(resolve("gemma-3-270m"), settings)
    engine.add(Request(1, list(range(100, 150)), Sampling(temperature=0, max_tokens=500)))
    engine.step()
    for child in psutil.Process().children(recursive=True):
        child.kill()
    try:
        for _ in range(400):
            engine.step()
    except EngineFailed as e:
        print("FAILED", e, flush=True)
    engine.close()
"""


@pytest.mark.engine
@pytest.mark.long
def test_a_core_that_is_killed_is_noticed_at_once(tmp_path: Path) -> None:
    """vLLM itself would wait for it for ever."""
    program = tmp_path / "dead_core.py"
    program.write_text(_DEAD_CORE)
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=280, check=True
    )

    assert "FAILED vLLM failed: its core, a process of its own, died" in done.stdout
