"""What a worker leaves behind is ended, however the worker ended."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

# a child that is forked, as vLLM's engine core is, and one of its own program
_WORKER = """
import os, subprocess, sys, time
from pipeline.engine.failure.child_guard import guard_children
guard_children()
forked = os.fork()
if not forked:
    time.sleep(600)
child = subprocess.Popen(["sleep", "600"])
print(forked, child.pid, flush=True)
sys.stdin.read()
os._exit(0)
"""
_PATIENCE_SECONDS = 20.0


@pytest.fixture
def worker() -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A worker and its two children."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", _WORKER]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        children = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
        yield process, children
        process.kill()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def _gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_children_do_not_outlive_their_worker(how: str, worker) -> None:
    process, children = worker
    assert not any(_gone(child) for child in children)

    if how == "killed":
        process.send_signal(signal.SIGKILL)
    else:
        process.stdin.close()
    process.wait()

    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not all(_gone(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(_gone(child) for child in children)
