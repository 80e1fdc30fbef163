"""How far a simulated rack is from the best it could be: `python -m tests.bench.rack`.

Mixed cards that are only so fast (3090s, 4090s, 5090s and 3060s by their memory bandwidth, each
with a fixed number of rows at once), rows whose work differs widely and is not known beforehand,
and a forecast that is wrong by up to a third for each card. The same dispatcher as in real runs.

Compared with the larger of total work ÷ total speed, and the longest single row on the fastest
slot. With failures, total speed is that of the cards that are there: a card that died is away for
two minutes, and nobody could have worked on it. What it had computed in vain, and the time until
it is missed, count against us.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers.constant_rate_card import ConstantRateCard, CostRow

from pipeline.simulate.rack import Failures, SimulatedRack
from tests.simulate.makespan import least_makespan

_RESULTS = Path(__file__).parent / "results" / "rack.json"
_KINDS = (  # name, speed in mean rows per second, rows at once: as of 27B on 24 GB and more
    ("rtx3060", 0.36, 6),
    ("rtx3090", 0.94, 10),
    ("rtx4090", 1.01, 10),
    ("rtx5090", 1.79, 24),
)
_AT_MOST = 1.03


def _rows(number: int, seed: int) -> list[CostRow]:
    """Work like that of chat answers: log-normal, cut at eight times the mean, in stretches of
    similar rows as real files have them."""
    dice = random.Random(seed)
    rows: list[CostRow] = []
    level = 1.0
    for i in range(number):
        if i % 500 == 0:
            level = dice.uniform(0.5, 1.5)
        rows.append(CostRow(i, level * min(8.0, dice.lognormvariate(-0.32, 0.8))))
    return rows


def measure(cards: int, hours: float, per_hour: float, seed: int) -> dict[str, Any]:
    dice = random.Random(seed)
    kinds = [_KINDS[i % len(_KINDS)] for i in range(cards)]
    made = [
        ConstantRateCard(f"{name}-{i}", speed, slots)
        for i, (name, speed, slots) in enumerate(kinds)
    ]
    rates = [card.speed * dice.uniform(0.67, 1.5) for card in made]
    rows = _rows(round(hours * 3600 * sum(card.speed for card in made)), seed)
    rack = SimulatedRack(
        made, rates, rows, rows_per_unit=1024, failures=Failures(per_hour, seed=seed)
    )
    started = time.perf_counter()
    run = rack.run()
    took = time.perf_counter() - started
    rack.dispatcher.ranges.check()
    work = sum(row.cost for row in rows)
    best = least_makespan(work, [card.speed for card in made], run.up)
    largest = max(row.cost for row in rows)
    longest = min(card.row_seconds(largest) for card in made)
    return {
        "cards": cards,
        "rows": len(rows),
        "deaths_per_card_hour": per_hour,
        "seed": seed,
        "makespan_seconds": round(run.makespan, 1),
        "work_over_speed_seconds": round(best, 1),
        "longest_row_seconds": round(longest, 1),
        "ratio": round(run.makespan / max(best, longest), 4),
        "deaths": run.deaths,
        "rows_lost": run.rows_lost,
        "leases": run.leases,
        "commits": run.commits,
        "steals": run.steals,
        "simulated_in_seconds": round(took, 1),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cards", type=int, nargs="+", default=[8, 256])
    parser.add_argument("--hours", type=float, default=2.0, help="of work for all cards together")
    parser.add_argument("--failures", type=float, nargs="+", default=[0.0, 0.1, 0.5])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--save", action="store_true", help=f"write {_RESULTS.name}")
    given = parser.parse_args(arguments)
    results = []
    print("cards  deaths/h   ratio  makespan      best  deaths   lost  leases commits    steals")
    for cards in given.cards:
        for per_hour in given.failures:
            for seed in range(given.seeds):
                r = measure(cards, given.hours, per_hour, seed)
                results.append(r)
                print(
                    f"{cards:5}  {per_hour:8.2f}  {r['ratio']:6.4f}  {r['makespan_seconds']:8.1f}  "
                    f"{r['work_over_speed_seconds']:8.1f}  {r['deaths']:6}  {r['rows_lost']:5}  "
                    f"{r['leases']:6}  {r['commits']:6}  {r['steals']:9}"
                    f"   {'ok' if r['ratio'] <= _AT_MOST else 'MISSED'}",
                    flush=True,
                )
    if given.save:
        _RESULTS.write_text(json.dumps({"at_most": _AT_MOST, "runs": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
