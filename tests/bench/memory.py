"""Whether memory grows with the number of rows: many rows through the simulated engine.

    python tests/bench/memory.py [--rows 10000000] [--workers 1]

Writes a Parquet input of that many short rows, runs a label job on it with the simulated engine,
and follows the resident memory of the driver, the coordinator and the workers. Prints each one's
peak and its growth from the first quarter of the run to the last, and writes
tests/bench/results/memory.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
MIB = 1 << 20
COORDINATOR_LIMIT_MIB = 500
ROW_GROUP = 65_536


def write_input(path: Path, rows: int) -> None:
    path.parent.mkdir(parents=True)
    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, ROW_GROUP):
            ids = range(start, min(start + ROW_GROUP, rows))
            writer.write_table(pa.table([ids, [f"row number {i}" for i in ids]], schema=schema))


def part_of(process: psutil.Process, driver: int) -> str | None:
    title = " ".join(process.cmdline())
    if process.pid == driver:
        return "driver"
    if "_CoordinatorActor" in title:
        return "coordinator"
    return "worker" if "WorkerActor" in title else None


def follow(run: subprocess.Popen[bytes]) -> dict[str, list[tuple[float, int]]]:
    """(seconds, resident bytes) of each part, once a second, until the run ends."""
    seen: dict[str, list[tuple[float, int]]] = {}
    started = time.monotonic()
    while run.poll() is None:
        time.sleep(1)
        try:
            processes = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            break
        for process in processes:
            try:
                part, resident = part_of(process, run.pid), process.memory_info().rss
            except psutil.Error:
                continue
            if part:
                seen.setdefault(part, []).append((time.monotonic() - started, resident))
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_input(folder / "input/rows.parquet", arguments.rows)
        job = {
            "name": "memory",
            "model": "gemma-3-270m",
            "input": {"path": str(folder / "input")},
            "prompt": "{text}",
            "label": {"choices": ["yes", "no"]},
            "engine": {"kind": "simulated"},
            "resources": {"workers": arguments.workers},
            "output": {"path": str(folder / "out")},
        }
        (folder / "job.yaml").write_text(yaml.safe_dump(job))
        rackmill = str(Path(sys.executable).parent / "rackmill")
        with (folder / "summary.json").open("wb") as out:
            command = [rackmill, "run", str(folder / "job.yaml"), "--json"]
            run = subprocess.Popen(command, stdout=out, cwd=ROOT)
            seen = follow(run)
        summary = json.loads((folder / "summary.json").read_text())
    assert run.returncode == 0
    assert summary["succeeded"] == arguments.rows
    result: dict[str, object] = {
        "rows": arguments.rows,
        "workers": arguments.workers,
        "rows_per_second": round(summary["rows_per_second"]),
    }
    print(f"{arguments.rows:,} rows at {summary['rows_per_second']:,.0f} rows/s")
    for part, points in sorted(seen.items()):
        quarter = max(1, len(points) // 4)
        first = max(r for _, r in points[: 2 * quarter][quarter // 2 :]) / MIB
        last = max(r for _, r in points[-quarter:]) / MIB
        peak = max(r for _, r in points) / MIB
        print(f"  {part:<12} peak {peak:6.0f} MiB   early {first:6.0f}   late {last:6.0f}")
        result[part] = {"peak": round(peak), "early": round(first), "late": round(last)}
    print(f"  target: coordinator under {COORDINATOR_LIMIT_MIB} MiB")
    (HERE / "results/memory.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
