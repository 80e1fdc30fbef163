"""Threads that serve do not interrupt threads that compute."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pipeline.engine.thread_priority import (
    compute_in_this_thread,
    yield_children,
    yield_own_servers,
    yield_this_thread,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="scheduling policies are Linux's")
_PR_SET_NAME = 15


def _policy_in_a_thread(*first: Callable[[], None]) -> int:
    found: list[int] = []

    def look() -> None:
        for call in first:
            call()
        found.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found[0]


@contextmanager
def _named_thread(name: str) -> Iterator[int]:
    """The id of a thread that a library might have started."""
    ready, over = threading.Event(), threading.Event()

    def idle() -> None:
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)
        ready.set()
        over.wait()

    thread = threading.Thread(target=idle)
    thread.start()
    ready.wait()
    try:
        assert thread.native_id is not None
        yield thread.native_id
    finally:
        over.set()
        thread.join()


def test_a_thread_that_yields_is_under_the_batch_policy() -> None:
    assert _policy_in_a_thread(yield_this_thread) == os.SCHED_BATCH


def test_a_thread_that_computes_is_under_the_normal_policy_again() -> None:
    assert _policy_in_a_thread(yield_this_thread, compute_in_this_thread) == os.SCHED_OTHER


def test_children_yield_with_all_their_threads() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        yield_children()
        assert os.sched_getscheduler(child.pid) == os.SCHED_BATCH
    finally:
        child.kill()
        child.wait()


def test_threads_that_a_library_named_yield_and_unnamed_ones_compute_on() -> None:
    with _named_thread("grpc_server") as server:
        yield_own_servers()
        assert os.sched_getscheduler(server) == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_gloo_without_partners_runs_only_when_no_one_else_does() -> None:
    with _named_thread("gloo_tcp_loop") as server:
        yield_own_servers()
        assert os.sched_getscheduler(server) == os.SCHED_IDLE
