"""Threads that serve must not interrupt threads that compute.

An engine on a CPU computes with one thread per core, and each of its steps waits for the slowest of
them. Whatever else wakes up on such a core (Ray's daemons, vLLM's own idle network threads, a
thousand times per second) holds all of them up. Under Linux's batch policy a thread that wakes up
waits until the one that runs has used up its time slice, a few milliseconds. On two cores an
engine without Ray took 2 % less time thereby (one run each); beside Ray's daemons the gain was too
small to tell from chance.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

_BATCH, _IDLE, _NORMAL = (
    getattr(os, f"SCHED_{policy}", None) for policy in ("BATCH", "IDLE", "OTHER")
)


def yield_own_servers() -> None:
    """Of this process, the threads that its libraries named: those compute nothing."""
    threads = Path("/proc/self/task")
    mine = _name(threads / str(os.getpid()))
    others = {int(t.name): name for t in _listed(threads) if (name := _name(t)) != mine}
    _put(others, _BATCH)
    # with one process in its group gloo has no one to talk to, and looks a hundred times a second
    _put((t for t, name in others.items() if "gloo" in name), _IDLE)


def yield_children() -> None:
    """Every thread of every descendant of this process, and what they start from now on."""
    for child in psutil.Process().children(recursive=True):
        _put((int(t.name) for t in _listed(Path(f"/proc/{child.pid}/task"))), _BATCH)


def yield_this_thread() -> None:
    """The calling thread, and those that it starts from now on."""
    _put([0], _BATCH)


def compute_in_this_thread() -> None:
    """The calling thread, and those that it starts from now on, compute."""
    _put([0], _NORMAL)


def _put(threads: Iterable[int], policy: int | None) -> None:
    if policy is None:
        return  # not Linux
    for thread in threads:
        with suppress(OSError):  # it has ended, or we may not: then all is as it was
            os.sched_setscheduler(thread, policy, os.sched_param(0))


def _listed(folder: Path) -> list[Path]:
    with suppress(OSError):
        return list(folder.iterdir())
    return []


def _name(thread: Path) -> str:
    with suppress(OSError):  # it has ended
        return (thread / "comm").read_text(encoding="utf-8", errors="replace")
    return ""
