"""A Ray of its own process, for commands to join: starting one takes longer than most jobs."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
_LONGEST_END = 60.0  # seconds


@dataclass(frozen=True)
class SharedRay:
    """The address of a Ray cluster, and the environment that lets a process join it."""

    address: str
    environment: dict[str, str]


@contextmanager
def ray_head(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[SharedRay]:
    """A Ray that runs in ``folder``, as one on another machine would. ``environment``: for its
    processes, workers among them. Raises RuntimeError when it does not start."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    own = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "RAY_num_workers_soft_limit": "0",  # no spare workers
        "RAY_prestart_worker_first_driver": "0",
    }
    with (folder / "log").open("wb") as log:
        head = subprocess.Popen(
            [sys.executable, "-c", _HEAD],
            cwd=folder,
            env=os.environ | own | token | dict(environment or {}),
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
            raise RuntimeError(f"Ray did not start:\n{(folder / 'log').read_text()}")
        yield SharedRay(address, token)
    finally:
        head.stdin.close()  # the head ends with its input
        try:
            head.wait(_LONGEST_END)
        except subprocess.TimeoutExpired:
            head.kill()
            head.wait()
        head.stdout.close()


@pytest.fixture(scope="session")
def shared_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedRay]:
    """A Ray that several tests share."""
    with ray_head(tmp_path_factory.mktemp("ray")) as head:
        yield head
