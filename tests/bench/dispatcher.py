"""The dispatcher at scale: `python -m tests.bench.dispatcher`.

1,000 workers and 1,000,000 units of 100 rows: what a grant costs, what the state weighs, and how
long the rebuild of the state for all of them takes when it is restarted. For reading their commit
records see ``tests.bench.resume``.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.dispatch.dispatcher import Dispatcher, Sizing
from pipeline.dispatch.events import (
    Committed,
    GaveUp,
    GiveUp,
    Grant,
    Joined,
    LeaseRequested,
    Reported,
    Ticked,
    UnitRange,
)
from pipeline.driver.coordinator.coordinator import Coordinator
from pipeline.input.units import Unit
from pipeline.rows.row_range import RowRange

_RESULTS = Path(__file__).parent / "results" / "dispatcher.json"
_ROWS = 100  # of a unit


def grants(workers: int, units: int) -> dict[str, Any]:
    """A whole run: every worker asks, reports every second, commits; at the end rows are taken
    over. What is measured around each event is the time of this thread alone, so that other
    processes do not count."""
    dice = random.Random(1)
    dispatcher = Dispatcher(
        [_ROWS] * units,
        costs=[dice.uniform(50, 150) for _ in range(units)],
        sizing=Sizing(shortest_seconds=2.0),
    )
    speeds = [dice.choice((100.0, 250.0, 400.0)) for _ in range(workers)]
    times: dict[str, list[float]] = {"grant": [], "wait": [], "report": [], "commit": []}
    held: list[list[UnitRange]] = [[] for _ in range(workers)]
    done, credit = [0] * workers, [0.0] * workers
    now = 0.0

    def timed(kind: str, event: Any) -> Any:
        started = time.thread_time()
        answer = dispatcher.handle(event)
        times[kind].append(time.thread_time() - started)
        return answer

    for worker in range(workers):
        dispatcher.handle(Joined(f"w{worker}", now, "", speeds[worker] * dice.uniform(0.7, 1.4)))
    gc.collect()
    gc.freeze()
    while not dispatcher.done:
        now += 1.0
        dispatcher.handle(Ticked(now))
        for worker in range(workers):
            name = f"w{worker}"
            asks = 0
            while sum(s.rows for s in held[worker]) < 2 * speeds[worker] and asks < 3:
                asks += 1
                started = time.thread_time()
                (answer,) = dispatcher.handle(LeaseRequested(name, now))
                took = time.thread_time() - started
                if not isinstance(answer, Grant):
                    times["wait"].append(took)
                    break
                times["grant"].append(took)
                held[worker] += answer.spans
            credit[worker] += speeds[worker] * dice.uniform(0.8, 1.2)
            while held[worker] and credit[worker] >= held[worker][0].rows:
                span = held[worker].pop(0)
                credit[worker] -= span.rows
                done[worker] += span.rows
                timed("commit", Committed(span))
            if not held[worker]:
                credit[worker] = 0.0
            report = Reported(name, now, done[worker] + int(credit[worker]), now, active=0)
            for request in timed("report", report):
                assert isinstance(request, GiveUp)
                place = held[worker].index(request.span)
                begun = request.span.start + (int(credit[worker]) + 1 if place == 0 else 0)
                stop = min(request.span.stop, max(request.keep, begun))
                kept = UnitRange(request.span.unit, request.span.start, stop)
                held[worker][place : place + 1] = [kept] if kept.rows else []
                dispatcher.handle(GaveUp(name, now, kept))
    dispatcher.ranges.check()
    gc.unfreeze()
    return {
        kind: {
            "count": len(values),
            "mean_us": round(1e6 * statistics.fmean(values), 1),
            "p99_us": round(1e6 * statistics.quantiles(values, n=100)[98], 1),
            "max_us": round(1e6 * max(values), 1),
        }
        for kind, values in times.items()
        if len(values) > 1
    }


def _units(units: int) -> list[Unit]:
    return [Unit(f"{n:024x}", 0, n * _ROWS, (n + 1) * _ROWS) for n in range(units)]


def memory(workers: int, units: int) -> dict[str, Any]:
    """Bytes of the coordinator's state, units and their names included, all workers at work."""
    gc.collect()
    tracemalloc.start()
    coordinator = Coordinator(_units(units), [], {"card": 100.0})
    whole = tracemalloc.get_traced_memory()[0]
    for worker in range(workers):
        coordinator.join(f"w{worker}", "card")
    for worker in range(workers):
        coordinator.acquire(f"w{worker}")
    at_work, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"fresh_mb": whole / 1e6, "at_work_mb": at_work / 1e6, "peak_mb": peak / 1e6}


def rebuild(units: int) -> float:
    """Seconds from records in memory to a coordinator that goes on: half of the units done, every
    hundredth in two parts of which one is there."""
    made = _units(units)
    done = [
        RowRange(u.shard, u.start, u.stop if n % 100 else (u.start + u.stop) // 2)
        for n, u in enumerate(made)
        if n % 2 == 0
    ]
    started = time.perf_counter()
    coordinator = Coordinator(made, done, {"card": 100.0})
    coordinator.join("w", "card")
    coordinator.acquire("w")
    return time.perf_counter() - started


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--units", type=int, default=1_000_000)
    parser.add_argument("--save", action="store_true", help=f"write {_RESULTS.name}")
    given = parser.parse_args(arguments)
    results: dict[str, Any] = {"workers": given.workers, "units": given.units}
    results["grants"] = grants(given.workers, given.units)
    for kind, r in results["grants"].items():
        print(
            f"{kind:7} {r['count']:9,} times  mean {r['mean_us']:6.1f} us  "
            f"p99 {r['p99_us']:6.1f} us  max {r['max_us']:9.1f} us",
            flush=True,
        )
    results["memory"] = memory(given.workers, given.units)
    print("state  " + "  ".join(f"{k} {v:.0f}" for k, v in results["memory"].items()), flush=True)
    results["rebuild_seconds"] = rebuild(given.units)
    print(f"rebuild of {given.units:,} units {results['rebuild_seconds']:.1f} s", flush=True)
    if given.save:
        _RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
