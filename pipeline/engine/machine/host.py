"""What this machine offers an engine: cores, memory, and libraries worth preloading. Its GPUs are
``pipeline.engine.gpu``'s."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from pipeline.budget.cards.lookup import Card, cpu_card

_CPUINFO = Path("/proc/cpuinfo")


def cores() -> list[int]:
    """The processor numbers this process may use."""
    return sorted(os.sched_getaffinity(0))


def cores_for(worker: int, workers: int, mine: Sequence[int] | None = None) -> list[int]:
    """The share of a machine's cores (None: of this one) that belongs to one of several engines.

    With more engines than cores, some share one.
    """
    mine = cores() if mine is None else mine
    if workers > len(mine):
        return [mine[worker % len(mine)]]
    each, more = divmod(len(mine), workers)
    start = worker * each + min(worker, more)
    return list(mine[start : start + each + (worker < more)])


def waited_for_cores() -> float:
    """Seconds up to now in which threads of this process were ready to run and had no core, in
    all; 0 where the system does not say (Linux does). Without gloo's: where it has no one to talk
    to, it looks around a hundred times a second, and nobody waits for it."""
    nanoseconds = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, IndexError, ValueError):  # the thread has ended
            if "gloo" not in path.with_name("comm").read_text("utf-8", "replace"):
                nanoseconds += int(path.read_text(encoding="ascii").split()[1])
    return nanoseconds / 1e9


def native_bf16() -> bool:
    """Whether the processor has instructions that multiply bf16 (AVX-512 BF16; AMX comes with
    them). False where the system does not say."""
    with suppress(OSError):
        return re.search(r"^flags\b.*\bavx512_bf16\b", _CPUINFO.read_text(), re.M) is not None
    return False


def available_memory() -> int:
    """Bytes of RAM that can be taken without swapping."""
    return int(psutil.virtual_memory().available)


def this_processor() -> Card:
    """This machine's, with the memory and cores that we may use."""
    return cpu_card(available_memory(), len(cores()), native_bf16=native_bf16())


def preloads() -> dict[str, str | None]:
    """Libraries that make an engine on CPU faster when preloaded: name -> path, None if absent.

    The allocator keeps threads from waiting for each other; Intel's OpenMP starts parallel
    regions faster than the one PyTorch brings.
    """
    prefix = Path(sys.prefix) / "lib"
    places = (str(prefix), "/usr/lib/*-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")

    def first(pattern: str) -> str | None:
        return next((f for place in places for f in sorted(glob.glob(f"{place}/{pattern}"))), None)

    return {"tcmalloc": first("libtcmalloc_minimal.so.4"), "iomp": first("libiomp5.so")}


def cpu_environment(
    worker: int,
    workers: int,
    mine: Sequence[int] | None = None,
    libraries: Sequence[str] | None = None,
    *,
    parts: int = 1,
) -> dict[str, str]:
    """Variables that an engine on CPU needs from the start of its process. ``mine``: the cores of
    its machine, ``libraries``: what to preload there (None: as on this one). ``parts``: of the
    engine, each with its share of every layer and a process of its own."""
    share = cores_for(worker, workers, mine)
    shares = [cores_for(part, parts, share) for part in range(parts)]
    variables = {
        "OMP_NUM_THREADS": str(len(shares[0])),
        "VLLM_CPU_OMP_THREADS_BIND": "|".join(",".join(map(str, one)) for one in shares),
    }
    if libraries is None:
        libraries = [path for path in preloads().values() if path]
    if libraries:
        variables["LD_PRELOAD"] = ":".join(libraries)
    return variables
