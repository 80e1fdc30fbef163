"""How large units may be: files of a small input, and what larger ones cost on a rack.

    python tests/bench/unit_sizes.py [--rows 600,3000] [--sizes 16,64,128,256,512]
        [--racks …] [--data sharegpt,tweets,sources] [--orders file,ascending,descending,blocks]
        [--processes 2]

For each rack, data set and order (peers/unseen_traces.py), simulated with the dispatcher of real
runs: the time with units of each size over that with units of the first size, and how many files
come of it. Writes tests/bench/results/unit_sizes.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from multiprocessing import Pool
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # `pipeline`, from any folder

from peers.measure import print_table, save
from peers.unseen_traces import DATA_SETS, ORDERS, trace
from unseen import setup_for

from pipeline.simulate.card import CardSim
from pipeline.simulate.cards import forecast_rate
from pipeline.simulate.rack import SimulatedRack

RACKS = {
    "27b:rtx3090": "one",
    "4b:rtx4090": "one",
    "4b:rtx4090,4b:rtx3060": "two",
    "12b:rtx4090,12b:rtx3090,12b:rtx3090,12b:rtx4060ti-16gb": "four",
}
_LIMIT = 2048  # tokens of an answer, as every request states


@dataclass(frozen=True)
class Case:
    rack: str
    data: str
    order: str
    rows: int
    sizes: tuple[int, ...]
    seed: int = 0


def compare(case: Case) -> dict[str, Any]:
    """One line of the table: by rows of a unit, seconds and files."""
    rows = trace(case.data, case.order, "tune", case.seed, case.rows)
    setups = [setup_for(card, rows, _LIMIT) for card in case.rack.split(",")]
    rates = [forecast_rate(setup, rows, _LIMIT) for setup in setups]
    seconds, files = {}, {}
    started = time.perf_counter()
    for size in case.sizes:
        cards = [
            CardSim(setup, "packed", max_tokens=_LIMIT, name=f"{place}")
            for place, setup in enumerate(setups)
        ]
        rack = SimulatedRack(cards, rates, rows, rows_per_unit=size)
        facts = rack.run()
        rack.dispatcher.ranges.check()
        seconds[size], files[size] = facts.makespan, facts.commits
    took = time.perf_counter() - started
    return {**vars(case), "seconds": seconds, "files": files, "took": took}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", default="600,3000")
    parser.add_argument("--sizes", default="16,64,128,256,512")
    parser.add_argument("--racks", nargs="+", default=list(RACKS))
    parser.add_argument("--data", default="sharegpt,tweets,sources")
    parser.add_argument("--orders", default="file,ascending,descending,blocks")
    parser.add_argument("--processes", type=int, default=2)
    a = parser.parse_args()
    sizes = tuple(int(size) for size in a.sizes.split(","))
    numbers = [int(rows) for rows in a.rows.split(",")]
    cases = [
        Case(rack, data, order, rows, sizes)
        for rows, rack, data, order in product(
            numbers, a.racks, a.data.split(","), a.orders.split(",")
        )
    ]
    assert {case.data for case in cases} <= DATA_SETS.keys()
    assert {case.order for case in cases} <= ORDERS.keys()
    lines = []
    with Pool(a.processes) as pool:
        for line in pool.imap(compare, cases):
            lines.append(line)
            first = line["seconds"][sizes[0]]
            of_first = [f"{line['seconds'][s] / first:.3f}/{line['files'][s]}" for s in sizes]
            what = (line["rows"], line["rack"], line["data"], line["order"], f"{first:.0f} s")
            print("  ", *what, *of_first, f"({line['took']:.0f} s)", file=sys.stderr, flush=True)
    show(lines, sizes)
    save("unit_sizes", {"unit_sizes": {"sizes": sizes, "table": lines}})


def show(lines: Sequence[dict[str, Any]], sizes: Sequence[int]) -> None:
    """Time over that of the first size (mean, most) and files (mean), by rack and rows."""
    table = []
    for rows, rack in sorted({(line["rows"], line["rack"]) for line in lines}):
        these = [line for line in lines if (line["rows"], line["rack"]) == (rows, rack)]
        row: list[Any] = [f"{rows} rows, {rack}"]
        for size in sizes:
            ratios = [line["seconds"][size] / line["seconds"][sizes[0]] for line in these]
            files = statistics.mean(line["files"][size] for line in these)
            row.append(f"{statistics.mean(ratios):.3f} ≤{max(ratios):.3f} {files:.0f}")
        table.append(row)
    print_table(f"time over that of units of {sizes[0]}, files", ["", *map(str, sizes)], table)


if __name__ == "__main__":
    main()
