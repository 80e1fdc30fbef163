"""A Ray that several tests share: starting one takes longer than most jobs here."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_HEAD = """
import logging, sys
import ray
ray.init(address="local", include_dashboard=False, log_to_driver=False,
         logging_level=logging.ERROR)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""


@dataclass(frozen=True)
class SharedRay:
    """The address of a Ray cluster, and the environment that lets a process join it."""

    address: str
    environment: dict[str, str]


@pytest.fixture(scope="session")
def shared_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedRay]:
    """A Ray that runs in a working folder of its own, as one on another machine would."""
    import os

    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    folder: Path = tmp_path_factory.mktemp("ray")
    with (folder / "log").open("wb") as log:
        head = subprocess.Popen(
            [sys.executable, "-c", _HEAD],
            cwd=folder,
            env=os.environ | environment | {"RAY_USAGE_STATS_ENABLED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert head.stdin is not None
    assert head.stdout is not None
    try:
        address = head.stdout.readline().strip()
        if not address:
            pytest.fail(f"Ray did not start:\n{(folder / 'log').read_text()}")
        yield SharedRay(address, environment)
    finally:
        head.stdin.close()  # the head ends with its input
        try:
            head.wait(60)
        except subprocess.TimeoutExpired:
            head.kill()
            head.wait()
        head.stdout.close()
