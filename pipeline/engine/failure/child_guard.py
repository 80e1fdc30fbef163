"""Nothing outlives a worker: a guard beside it ends what it leaves behind.

A worker that is killed cannot end its children. On a GPU vLLM's engine core is such a child: it
does not watch its parent, and would keep the card's memory for ever. The kernel can kill a child
with its parent, but only if the child asks for it, and that code is not ours.
"""

from __future__ import annotations

import os
import subprocess
import sys

# plain Python without site-packages: a few MB, and it starts in a few milliseconds
_GUARD = """
import os, signal, sys, time
worker = int(sys.argv[1])
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
while os.getppid() == worker:
    time.sleep(0.5)
try:
    os.killpg(worker, signal.SIGKILL)
except OSError:
    pass
"""
_guard: subprocess.Popen[bytes] | None = None  # held, or Python warns that it still runs


def guard_children() -> None:
    """From now on this process leads its own process group. Whatever is left of the group when it
    has ended, in whatever way, is killed within a second."""
    worker = os.getpid()
    if os.getpgid(0) != worker:
        os.setpgid(0, 0)
    global _guard
    _guard = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _GUARD, str(worker)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
