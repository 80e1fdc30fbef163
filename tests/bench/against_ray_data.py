"""The real engine under rackmill against Ray Data LLM: Parquet in, Parquet out, whole processes.

    python tests/bench/against_ray_data.py [sharegpt] [tweets] [--rounds N]
        [--sharegpt-rows SMALL LARGE] [--tweets-rows SMALL LARGE] [--only WORDS]

Each system runs in a fresh process on the SMALL number of rows and on the LARGE one, in turn. The
whole run is the wall time of the process on SMALL rows, loading included. The steady rate is the
marginal one, (LARGE - SMALL) / (its seconds - SMALL's seconds): loading, warming up and the tail
cancel out. Medians over the rounds.

- sharegpt: answers end at their recorded lengths, which no system is told. Ray Data LLM with
  batches of 32, 8 at a time (its defaults), and of 16, 32 at a time; the better one counts. For
  comparison the better one with rackmill's engine arguments, threads and preloaded libraries.
- tweets: few-shot labels, a fifth of the rows are repeated ones. rackmill gives each label's
  probability too; Ray Data LLM gives one greedy token out of the two choices. With its defaults,
  and with rackmill's block size, threads and preloaded libraries, better of both batch sizes.

What Ray Data LLM is given, and why: see peers/ray_data.py. It needs pandas, which
`./infra/setup --test` installs, and nothing else. Writes
tests/bench/results/against_ray_data.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # `pipeline`, from any folder

from peers.measure import Measured, in_turn, median, print_table, save
from peers.workplace import MEMORY, Workplace, labelled_tweets, sharegpt

from pipeline.engine.machine.host import cpu_environment
from pipeline.engine.vllm.engine import environment

OURS = "rackmill run"
DEFAULT, MANY = (32, 8), (16, 32)  # rows in a batch, batches at a time
_FIRST_ROWS = 16
Make = Callable[[Path, int], Workplace]


def ray_data(
    work: Workplace,
    batches: tuple[int, int],
    engine: Mapping[str, Any] | None = None,
    variables: Mapping[str, str] | None = None,
) -> Callable[[], Measured]:
    size, concurrent = batches
    return partial(
        work.peer,
        "ray_data.py",
        {"VLLM_LOGGING_LEVEL": "WARNING", "RAY_USAGE_STATS_ENABLED": "0"},
        engine=MEMORY | dict(engine or {}),
        batch_size=size,
        max_concurrent_batches=concurrent,
        engine_environment=dict(variables or {}),
    )


def alike() -> dict[str, str]:
    """rackmill's threads and preloaded libraries, and what else its engines are given, but the
    process: Ray Data LLM's engine has one of its own, and stays there."""
    wanted = cpu_environment(0, 1) | environment(gpu=False, eager=True)
    del wanted["VLLM_ENABLE_V1_MULTIPROCESSING"]
    return wanted


def sharegpt_systems(work: Workplace) -> dict[str, Callable[[], Measured]]:
    return {
        OURS: work.rackmill,
        "Ray Data LLM, 32 x 8": ray_data(work, DEFAULT),
        "Ray Data LLM, 16 x 32": ray_data(work, MANY),
        "  16 x 32, our engine arguments": ray_data(work, MANY, work.arguments, alike()),
    }


def tweets_systems(work: Workplace) -> dict[str, Callable[[], Measured]]:
    block = {"block_size": work.arguments["block_size"]}
    return {
        OURS: work.rackmill,
        "Ray Data LLM, defaults": ray_data(work, DEFAULT),
        "Ray Data LLM, our block size, threads, preloads": ray_data(
            work, DEFAULT, block, cpu_environment(0, 1)
        ),
        "  the same, 16 x 32": ray_data(work, MANY, block, cpu_environment(0, 1)),
    }


def measure(
    folder: Path,
    make: Make,
    systems: Callable[[Workplace], dict[str, Callable[[], Measured]]],
    sizes: Sequence[int],
    rounds: int,
    chosen: Callable[[str], bool],
) -> tuple[list[Workplace], list[dict[str, list[Measured]]]]:
    """Both sizes in each round, system by system; before that each peer once on a few rows, so
    that what it compiles on a machine's first run is there."""
    for name, run in systems(make(folder / "first", _FIRST_ROWS)).items():
        if name != OURS and chosen(name):
            in_turn({f"{name} (first run, not counted)": run}, 1)
    works = [make(folder / str(size), size) for size in sizes]
    both = {
        f"{name}\t{size}": run
        for (size, work) in zip(sizes, works, strict=True)
        for name, run in systems(work).items()
        if chosen(name)
    }
    order = sorted(both, key=lambda key: list(both).index(key) % (len(both) // len(sizes)))
    found = in_turn({key: both[key] for key in order}, rounds)
    names = list(dict.fromkeys(key.split("\t")[0] for key in order))
    return works, [{name: found[f"{name}\t{size}"] for name in names} for size in sizes]


def tabulate(
    title: str,
    works: Sequence[Workplace],
    found: Sequence[Mapping[str, list[Measured]]],
    steady_targets: Mapping[str, float],
    whole_target: float | None,
) -> dict[str, Any]:
    """Steady rates and whole runs; ratios: rackmill's over the system's."""
    small, large = works
    tokens = bool(small.tokens)
    unit = "tokens/s" if tokens else "rows/s"
    more = large.tokens - small.tokens if tokens else large.rows - small.rows
    rows = []
    for name in found[0]:
        seconds = [median(each[name], "whole_seconds") for each in found]
        pairs = zip(found[0][name], found[1][name], strict=True)
        rates = [more / (b["whole_seconds"] - a["whole_seconds"]) for a, b in pairs]
        rows.append(
            {
                "system": name.strip(),
                "shown": name,
                unit: round(statistics.median(rates), 2),
                "rates": [round(rate, 2) for rate in rates],
                "whole_seconds": round(seconds[0], 1),
                "large_seconds": round(seconds[1], 1),
            }
        )
    ours = rows[0]
    for row in rows[1:]:
        row["steady_ratio"] = round(ours[unit] / row[unit], 3)
        row["whole_ratio"] = round(row["whole_seconds"] / ours["whole_seconds"], 3)
        row["steady_target"] = steady_targets.get(row["system"])
        row["whole_target"] = whole_target if row["steady_target"] else None
    head = ["system", f"steady {unit}", "rackmill ×", "target"]
    head += [f"{small.rows} rows, s", "rackmill ×", "target", f"{large.rows} rows, s", "rates"]
    columns = ("shown", unit, "steady_ratio", "steady_target", "whole_seconds", "whole_ratio")
    columns += ("whole_target", "large_seconds")
    print_table(
        title,
        head,
        [[r.get(c) for c in columns] + [" ".join(map(str, r["rates"]))] for r in rows],
    )
    for row in rows:
        del row["shown"]
    return {"title": title, "rows": [w.rows for w in works], "table": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("tables", nargs="*", default=["sharegpt", "tweets"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sharegpt-rows", type=int, nargs=2, default=[128, 320])
    parser.add_argument("--tweets-rows", type=int, nargs=2, default=[400, 1400])
    parser.add_argument("--only", default="", help="peers whose name has one of these, …|…")
    a = parser.parse_args()

    def chosen(system: str) -> bool:
        return system == OURS or any(words in system for words in a.only.split("|"))

    for name in a.tables:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            if name == "sharegpt":
                works, found = measure(
                    folder, sharegpt, sharegpt_systems, a.sharegpt_rows, a.rounds, chosen
                )
                names = ("Ray Data LLM, 32 x 8", "Ray Data LLM, 16 x 32")
                title = "ShareGPT rows, recorded lengths (the better of 32 x 8 and 16 x 32 counts)"
                table = tabulate(title, works, found, dict.fromkeys(names, 1.8), 1.8)
            else:
                works, found = measure(
                    folder, labelled_tweets, tweets_systems, a.tweets_rows, a.rounds, chosen
                )
                targets = {
                    "Ray Data LLM, defaults": 3.0,
                    "Ray Data LLM, our block size, threads, preloads": 2.0,
                    "the same, 16 x 32": 2.0,
                }
                title = "tweets, a fifth of them repeated"
                table = tabulate(title, works, found, targets, None)
            save("against_ray_data", {f"{name}, {a.only}" if a.only else name: table})


if __name__ == "__main__":
    main()
