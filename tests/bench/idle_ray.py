"""What a Ray of our own takes of the cores while its workers compute: all its processes, and a
driver that waits, beside one actor that is busy and one that is not.

    python tests/bench/idle_ray.py [--seconds N]

Writes tests/bench/results/idle_ray.json: percent of one core.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # `pipeline`, from any folder

import psutil
import ray
from peers.measure import print_table, save

from pipeline.cluster.ray_cluster import Cluster
from pipeline.driver.workers.worker_handle import _WAKE_SECONDS

_SETTLE_SECONDS = 6.0


@ray.remote(num_cpus=0)
class _Actor:
    def here(self) -> int:
        return os.getpid()

    def work(self) -> None:
        time.sleep(1000)  # an engine's thread, as far as Ray is concerned


def spent() -> dict[psutil.Process, float]:
    """Seconds of processor time up to now, by process."""
    found = {}
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with suppress(psutil.Error):
            # to the nanosecond; what psutil tells is in hundredths
            tasks = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
            found[process] = sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    seconds = parser.parse_args().seconds
    cluster = Cluster(None)
    busy, idle = (_Actor.remote() for _ in range(2))  # type: ignore[attr-defined]
    pids = ray.get([busy.here.remote(), idle.here.remote()])
    names = dict(zip(pids, ("busy actor", "idle actor"), strict=True)) | {os.getpid(): "driver"}
    work = busy.work.remote()
    time.sleep(_SETTLE_SECONDS)
    before, started = spent(), time.monotonic()
    while time.monotonic() - started < seconds:
        ray.wait([work], timeout=_WAKE_SECONDS)
    after, took = spent(), time.monotonic() - started
    rows = [
        (names.get(process.pid, process.name()), 100 * (after[process] - then) / took)
        for process, then in before.items()
        if process in after
    ]
    cluster.close()
    rows.sort(key=lambda row: -row[1])
    rows.append(("all", sum(share for _, share in rows)))
    print_table("% of a core", ["process", "%"], rows)
    save("idle_ray", {"ours": {"rows": [[name, round(share, 3)] for name, share in rows]}})


if __name__ == "__main__":
    main()
