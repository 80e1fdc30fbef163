"""A Ray of its own process, for commands to join: starting one takes longer than most jobs."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_HEAD = """
import logging, sys
import ray
from pipeline.cluster.ray_cluster import _alone
ray.init(address="local", **_alone(), log_to_driver=False, logging_level=logging.ERROR)
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


class Shared:
    """One Ray for whoever asks, started for the first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started = ExitStack()
        self._head: SharedRay | None = None

    def get(self) -> SharedRay:
        if self._head is None:
            self._folder.mkdir(exist_ok=True)
            self._head = self._started.enter_context(ray_head(self._folder))
        return self._head

    def close(self) -> None:
        """The next one who asks starts it anew."""
        self._started.close()
        self._head = None


@pytest.fixture(scope="session")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    shared = Shared(tmp_path_factory.mktemp("ray") / "head")
    yield shared
    shared.close()


@pytest.fixture(scope="session")
def _files_with_ray(request: pytest.FixtureRequest) -> set[Path]:
    return {item.path for item in request.session.items if item.get_closest_marker("ray")}


@pytest.fixture(scope="module", autouse=True)
def ray_ends(request: pytest.FixtureRequest, _shared: Shared, _files_with_ray: set[Path]) -> None:
    """Files that start Ray come first: with the first other one, nobody needs it any more, and its
    processes would only take time from the tests."""
    if request.path not in _files_with_ray:
        _shared.close()


@pytest.fixture(scope="module")
def shared_ray(_shared: Shared) -> SharedRay:
    """A Ray that several tests share."""
    return _shared.get()
