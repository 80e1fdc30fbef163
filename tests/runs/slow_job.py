"""A job that can be interrupted: about 80 requests at once, some 20 steps each."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from tests.support.processes import called
from tests.support.ray_head import SharedRay
from tests.support.samples import write_model

ROWS = (1800, 1400)

_JOB = """\
name: slow
model: models/tiny
input: {{path: rows/*.parquet}}
prompt: "Continue: {{text}}"
sampling: {{max_tokens: 32}}
output: {{path: out, keep: [id]}}
engine: {{kind: simulated, simulated: {{step_seconds: {step}, num_blocks: 1024}}}}
resources: {{workers: {workers}}}
faults: {{silence_seconds: {silence}}}
"""


def prepare(
    folder: Path,
    write_shards: Callable[..., Path],
    *,
    step: float = 0.04,
    workers: int = 2,
    silence: float = 30,
    rows: tuple[int, ...] = ROWS,
) -> Path:
    """Write the job and its input into ``folder``. Returns its output folder."""
    write_shards(folder / "rows", *rows)
    write_model(folder / "models/tiny")
    (folder / "job.yaml").write_text(_JOB.format(step=step, workers=workers, silence=silence))
    return folder / "out"


def published(output: Path) -> int:
    """Units whose rows a reader sees."""
    return len(list(output.glob("[!.]*.parquet")))


def ray_processes(ray: SharedRay) -> list[psutil.Process]:
    """Every process of a Ray: they all carry its token."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            environment = process.environ()
            if ray.environment.items() <= environment.items():
                found.append(process)
    return found


def actors_on(ray: SharedRay) -> list[psutil.Process]:
    """The processes of runs there: workers, and a coordinator each."""
    return called(ray_processes(ray), "Actor")


def workers_on(ray: SharedRay) -> list[psutil.Process]:
    """The processes in which engines run there."""
    return called(ray_processes(ray), "WorkerActor")


def kill_workers_on(ray: SharedRay) -> None:
    """kill -9 of them all."""
    for process in workers_on(ray):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def still_alive(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that have not ended after so long."""
    deadline = time.monotonic() + seconds
    while (left := [p for p in processes if _lives(p)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
