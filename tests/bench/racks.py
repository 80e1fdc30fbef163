"""How a rack scales: two real engines, sixteen simulated ones, a machine that joins, a long queue.

    python tests/bench/racks.py two        # ShareGPT: two engines with a core each against one
    python tests/bench/racks.py sixteen    # simulated engines: 16 against 16 times one
    python tests/bench/racks.py joining    # a machine joins a running job: until its first row
    python tests/bench/racks.py queued     # 200 jobs in the queue: memory of the head, `submit`

`joining` runs the real engine on two hosts (network namespaces, a core each) and needs root and
iproute2. Writes tests/bench/results/racks.json, each part by itself.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from prometheus_client.parser import text_string_to_metric_families

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.service.rack.ray_node import METRICS_PORT  # noqa: E402
from pipeline.worker.metrics.metrics import ROWS  # noqa: E402
from tests.bench.steady_rate import sharegpt  # noqa: E402
from tests.service.rack.hosts import RACKMILL, Host, Network  # noqa: E402
from tests.support.samples import write_model  # noqa: E402

RESULTS = HERE / "results/racks.json"
_QUEUED = 200
_AT_ONCE = 32  # requests


def run(job: Path, *given: str, cores: str | None = None) -> dict[str, Any]:
    """The summary of `rackmill run`, and ``whole``: seconds from its start to its end."""
    pinned = ["taskset", "-c", cores] if cores else []
    command = [*pinned, *RACKMILL, "run", str(job), "--json", "--fresh", *given]
    started = time.perf_counter()
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout
    summary: dict[str, Any] = json.loads(printed)
    return summary | {"whole": time.perf_counter() - started}


def two(folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    """One engine on core 0 against two on cores 0 and 1, in turn.

    Each runs at most 32 requests at once, as on a card whose cache holds so many: were all rows
    begun at once, two would have half the batch each, and a batch costs less than its parts.
    """
    job = folder / "job.yaml"
    content = sharegpt(folder, rows) | {"engine": {"max_num_seqs": _AT_ONCE}}
    job.write_text(yaml.safe_dump(content))
    pairs = [(run(job, cores="0"), run(job, "--workers", "2", cores="0,1")) for _ in range(rounds)]
    return {
        "rows": rows,
        "max_num_seqs": _AT_ONCE,
        "one_work_seconds": [round(one["work_seconds"], 1) for one, _ in pairs],
        "two_work_seconds": [round(both["work_seconds"], 1) for _, both in pairs],
        "ratio_work": [round(b["work_seconds"] / o["work_seconds"], 3) for o, b in pairs],
        "one_whole_seconds": [round(one["whole"], 1) for one, _ in pairs],
        "two_whole_seconds": [round(both["whole"], 1) for _, both in pairs],
        "ratio_whole": [round(b["whole"] / o["whole"], 3) for o, b in pairs],
        "target": 0.55,
    }


def sixteen(folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    """``rows``: for each engine. Their steps take as long as those of a 27B model on a card.

    Rates are steady ones, from when all engines are there to when nine tenths of the rows are: two
    cores need a minute to start sixteen processes, which a rack of sixteen machines does not.
    """
    job = simulated_job(folder, 16 * rows, step_seconds=0.25)
    pairs = []
    for _ in range(rounds):
        one = steady_rate(job, 1, "--rows", str(rows))
        pairs.append((one, steady_rate(job, 16)))
    return {
        "rows_each": rows,
        "one_rows_per_second": [round(one, 2) for one, _ in pairs],
        "sixteen_rows_per_second": [round(many, 2) for _, many in pairs],
        "share_of_16_times_one": [round(many / (16 * one), 3) for one, many in pairs],
        "target": 0.95,
    }


def steady_rate(job: Path, engines: int, *given: str) -> float:
    """Rows per second, as the run's own lines tell."""
    command = [*RACKMILL, "run", str(job), "--fresh", "--workers", str(engines), *given]
    ready, seen = False, list[tuple[float, int, int]]()
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            ready = ready or len(re.findall(r"\d+%", line)) >= engines  # each has its KV use
            shown = re.match(r"\s+([\d\s\u202f]+)/([\d\s\u202f]+) rows", line)
            if shown is not None and ready:
                done, total = (int(re.sub(r"\s", "", text)) for text in shown.groups())
                seen.append((time.perf_counter(), done, total))
    seen = [one for one in seen if 0 < one[1] <= 0.9 * one[2]]
    (first, before, _), (last, after, _) = seen[0], seen[-1]
    return (after - before) / (last - first)


def simulated_job(folder: Path, rows: int, *, step_seconds: float) -> Path:
    """A job file for rows of equal work: 32 at once, 16 tokens each."""
    (folder / "rows").mkdir()
    table = pa.table({"text": [f"row {n}" for n in range(rows)]})
    pq.write_table(table, folder / "rows/part.parquet", row_group_size=256)
    job = {
        "name": "simulated",
        "model": str(write_model(folder / "model")),
        "input": {"path": str(folder / "rows/*.parquet")},
        "prompt": "{text}",
        "sampling": {"max_tokens": 16, "ignore_eos": True},
        "output": {"path": str(folder / "out")},
        "engine": {
            "kind": "simulated",
            "max_num_seqs": 32,
            "simulated": {"step_seconds": step_seconds},
        },
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def joining(folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    """Seconds from `rackmill rack join` until the first row is finished there, by phase.

    At most 32 requests at once: an answer has 128 tokens, and with a batch of hundreds a core takes
    minutes for the first ones (which all end together).
    """
    found = []
    for number in range(rounds):
        place = folder / str(number)
        place.mkdir()
        found.append(_join_once(place, rows))
    return {"rows": rows, "rounds": found, "target": 90.0, "target_ours": 5.0}


def _join_once(folder: Path, rows: int) -> dict[str, float]:
    job = folder / "job.yaml"
    content = sharegpt(folder, rows) | {"engine": {"max_num_seqs": _AT_ONCE}}
    job.write_text(yaml.safe_dump(content))
    with Network(folder, {"RAY_metrics_report_interval_ms": "500"}) as net:
        head, late = net.host("head", cores="0"), net.host("late", cores="1")
        address = f"{head.address}:6379"
        assert head.rackmill("rack", "start", "--head", "--host", head.address).code == 0
        work = head.start("run", str(job), "--address", address, "--json")
        work.wait_until(lambda: "rows/s" in work.output, "the first rows")
        started = time.time()
        assert late.rackmill("rack", "join", address, "--host", late.address).code == 0
        joined = time.time()
        work.wait_until(lambda: "late is there" in work.output, "the machine is taken in")
        taken = time.time()
        work.wait_until(lambda: work.output.count("engine  ready") >= 2, "the second engine")
        ready = time.time()
        work.wait_until(lambda: _rows_finished(late) > 0, "the first row there")
        finished = time.time()
        ended = work.wait()
        assert ended.code == 0, ended.err
    return {
        "joined": round(joined - started, 1),
        "taken_in": round(taken - started, 1),
        "engine_ready": round(ready - started, 1),
        "first_row": round(finished - started, 1),
    }


def _rows_finished(host: Host) -> float:
    """Rows that its engine has given their results, as its metrics say."""
    text = host.fetch(f"http://127.0.0.1:{METRICS_PORT}/metrics")
    samples = (s for family in text_string_to_metric_families(text) for s in family.samples)
    return sum(s.value for s in samples if s.name == ROWS.exported)


def queued(folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    """What 200 jobs cost that wait behind one, and how long `submit` takes."""
    job = simulated_job(folder, 50_000, step_seconds=0.1)
    with rack(folder) as head:
        given = ("--address", f"{head.address}:6379", "--json")

        def submit(number: int) -> float:
            began = time.perf_counter()
            output = ("--output", str(folder / f"out-{number}"))
            assert head.rackmill("submit", str(job), *output, *given).code == 0
            return time.perf_counter() - began

        submit(0)
        time.sleep(20)
        before = _memory(head)
        seconds = [submit(number) for number in range(1, _QUEUED + 1)]
        time.sleep(10)
        after = _memory(head)
        listed = head.rackmill("jobs", *given).json["jobs"]
        assert sum(one["state"] == "PENDING" for one in listed) == _QUEUED
    return {
        "jobs": _QUEUED,
        "head_mib_before": round(before / 2**20),
        "head_mib_after": round(after / 2**20),
        "submit_seconds_median": round(sorted(seconds)[len(seconds) // 2], 2),
        "submit_seconds_longest": round(max(seconds), 2),
        "target_submit_seconds": 5.0,
        "target_mib": 1024,
    }


@contextmanager
def rack(folder: Path) -> Iterator[Host]:
    """A rack of one machine, with one card that it announces."""
    with Network(folder) as net:
        head = net.host("head")
        started = head.rackmill(
            "rack", "start", "--head", "--host", head.address, cards="1x rtx4090"
        )
        assert started.code == 0, started.err
        yield head


def _memory(host: Host) -> int:
    """Bytes that its processes have to themselves, in all."""
    total = 0
    for process in host.processes():
        try:
            total += process.memory_full_info().uss
        except psutil.Error:
            continue
    return total


PARTS = {
    "two": (two, 256),
    "sixteen": (sixteen, 960),
    "joining": (joining, 256),
    "queued": (queued, 0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS))
    parser.add_argument("--rows", type=int)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in arguments.parts:
        part, rows = PARTS[name]
        with tempfile.TemporaryDirectory() as scratch:
            given = arguments.rows or rows
            results[name] = part(Path(scratch), given, arguments.rounds)
        print(name, json.dumps(results[name], indent=1))
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
