"""vLLM and llama.cpp on one job: is the work shared by rate, and is no row lost or doubled?

    python tests/bench/mixed.py [--rows 2000 (0: not)] [--seeds 20] [--kill-rows 128]

The demo's rows, and more like them, by vLLM (int4) and by a ``llama-server`` that rackmill starts
(Q4_K_M), both on this machine's processor. First without disturbance: who answered how many, how
far they agree, and how long the one that was done first had nothing to do, as a share of the time
in which it had answered (0 where work is shared exactly by rate). Then one run for each seed, in
which a worker or the llama-server is killed (SIGKILL) once it has begun: every row has to be there
once. Writes tests/bench/results/mixed.json.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[2]))  # `pipeline`, from any folder

from peers.measure import print_table, save

from pipeline.output.dataset import Dataset
from pipeline.output.verify.dataset import verify
from pipeline.storage.base import open_storage
from tests.support.processes import Launcher, Started, called

_ROOT = Path(__file__).parents[2]
_JOB = """\
name: mixed
model: gemma-3-270m
input: {{path: {rows}}}
prompt: "Tweet: {{text}}\\nSentiment:"
examples:
  - {{text: "@united thanks, all went well", answer: positive}}
  - {{text: "@united lost my bag, again", answer: negative}}
label: {{choices: [negative, positive]}}
resources: {{engines: [vllm, llama.cpp], mixed: true}}
output: {{path: out, keep: [text]}}
"""
_POLL_SECONDS = 0.05
_DEMO_ROWS = 512


def run(folder: Path, rows: int, disturb: Callable[[Started, Path], None]) -> float:
    """Seconds that the job took. Raises SystemExit where it failed."""
    (folder / "job.yaml").write_text(_JOB.format(rows=_input(rows)))
    started = time.monotonic()
    launcher = Launcher()
    try:
        process = launcher.start("run", "job.yaml", "--rows", rows, cwd=folder)
        disturb(process, folder / "out")
        ended = process.wait()
    finally:
        launcher.close()
    if ended.code:
        raise SystemExit(f"the run ended with {ended.code}:\n{ended.err[-3000:]}")
    return time.monotonic() - started


@cache
def _input(rows: int) -> Path:
    """The demo's tweets, and later ones of the same corpus where more are asked for."""
    if rows <= _DEMO_ROWS:
        return _ROOT / "jobs/data/tweets"
    folder = Path(tempfile.gettempdir()) / f"rackmill-tweets-{rows}"
    make = [sys.executable, str(_ROOT / "infra/make_tweets.py"), str(folder), "--rows", str(rows)]
    subprocess.run(make, check=True)
    return folder


def shares(output: Path) -> dict[str, dict[str, float]]:
    """By engine: rows, when its first and last file was there, and how long it was idle then."""
    found: dict[str, dict[str, float]] = {}
    for path in output.glob("[!._]*.parquet"):
        at = path.stat().st_mtime
        [engine] = set(pq.read_table(path, columns=["engine"]).column(0).to_pylist())
        one = found.setdefault(engine, {"rows": 0, "first": at, "last": at})
        one["rows"] += pq.read_metadata(path).num_rows
        one["first"], one["last"] = min(one["first"], at), max(one["last"], at)
    end = max(one["last"] for one in found.values())
    for one in found.values():
        one["idle"] = (end - one["last"]) / max(end - one["first"], 1e-9)
        one["seconds"] = one["last"] - one["first"]
    return found


def once(output: Path, rows: int) -> bool:
    """Whether each row is there once, as `rackmill verify` has it."""
    storage = open_storage(str(output))
    told = Dataset(storage).first_rows(rows + 1)
    return len(told) == rows and not verify(storage).faults


def killer(seed: int, said: list[str]) -> Callable[[Started, Path], None]:
    """Kills one of the engines' processes at a moment of its own."""
    dice = random.Random(seed)
    name = dice.choice(["llama-server", "WorkerActor"])

    def kill(run: Started, output: Path) -> None:
        files = dice.randint(1, 3)
        while run.process.poll() is None:
            if len(list(output.glob("[!._]*.parquet"))) >= files:
                victims = called(run.processes(), name)
                if victims:
                    dice.choice(victims).kill()
                    said.append(name)
                    return
            time.sleep(_POLL_SECONDS)

    return kill


def undisturbed(rows: int) -> bool:
    """Whether every row is there once, where nobody is killed."""
    result: dict[str, Any] = {"rows": rows}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result["seconds"] = round(run(folder, rows, lambda run, output: None), 1)
        result["whole"] = once(folder / "out", rows)
        result["engines"] = shares(folder / "out")
        summary = Dataset(open_storage(str(folder / "out"))).summary() or {}
        result["agreement"] = summary.get("agreement")
    print_table(
        "who answered",
        ("engine", "rows", "seconds", "idle at the end"),
        [
            (engine, int(one["rows"]), f"{one['seconds']:.1f}", f"{one['idle']:.1%}")
            for engine, one in result["engines"].items()
        ],
    )
    for one in result["agreement"] or ():
        print(f"they agree on {one['equal']} of {one['rows']} rows")
    save("mixed", {f"{rows} rows": result})
    return bool(result["whole"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--kill-rows", type=int, default=128)
    asked = parser.parse_args()
    whole = undisturbed(asked.rows) if asked.rows else True
    kills = []
    for seed in range(asked.seeds):
        said: list[str] = []
        with tempfile.TemporaryDirectory() as name:
            seconds = run(Path(name), asked.kill_rows, killer(seed, said))
            kept = once(Path(name) / "out", asked.kill_rows)
        kills.append({"seed": seed, "killed": said, "seconds": round(seconds, 1), "whole": kept})
        print(f"seed {seed}: {said} killed, {seconds:.0f} s, whole: {kept}", flush=True)
    if kills:
        save("mixed", {"kills": {"rows": asked.kill_rows, "runs": kills}})
    if not whole or not all(one["whole"] for one in kills):
        raise SystemExit("rows were lost or doubled")


if __name__ == "__main__":
    main()
