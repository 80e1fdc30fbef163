"""What one admission costs with 256 requests running: choosing the row, asking, counting it in.

    python tests/bench/admission.py

Requests of 300 prompt tokens (18 whole blocks of their own) on Gemma 3 4B's layout; lengths
learned from 500 completions. CPU seconds of this thread. ``step`` is what the packer does once per
engine step, however many are admitted then: 256 tokens counted, the future drawn anew.
Writes tests/bench/results/admission.json.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # `pipeline`, from any folder

from peers.measure import print_table, save

from pipeline.admission.demand import Demand, block_keys
from pipeline.admission.policies.packed import Packed
from pipeline.admission.policy import Limits
from pipeline.budget.kv_layout import KvLayout
from pipeline.model.catalogue import MODELS

RUNNING, PROMPT, LIMIT, ROUNDS = 256, 300, 1024, 300
TARGET = 50.0  # microseconds


def microseconds(work: Callable[[], object]) -> float:
    started = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - started) / 1000


def main() -> None:
    dice = random.Random(0)
    layout = KvLayout(MODELS["gemma-3-4b"].geometry, 16, 2048)
    admission = Packed(Limits(layout, 1_000_000, RUNNING + 1, 10**9, LIMIT))
    packer = admission.packer

    def demand(number: int) -> Demand:
        ids = [dice.randrange(10**5) for _ in range(PROMPT)]
        return Demand(number, PROMPT, LIMIT, block_keys(ids, 16))

    for number in range(RUNNING):
        packer.admit(demand(number))
    for number in range(500):
        packer.finished(number % RUNNING, 1 + int(dice.lognormvariate(5, 0.9)))
        packer.admit(demand(number % RUNNING))
    asked, steps = [], []
    for number in range(RUNNING, RUNNING + 512):
        admission.add(demand(number))
    for _ in range(ROUNDS):
        steps.append(
            microseconds(lambda: (packer.generated(list(range(RUNNING))), packer._future()))
        )
        before = set(packer._slots)
        asked.append(microseconds(lambda: admission.next(inside=RUNNING, waiting=0, ending=False)))
        [new] = set(packer._slots) - before
        packer.finished(new, 200)
        packer._future()
        admission.add(demand(new))
    result: dict[str, Any] = {
        "running": packer.running,
        "admission_microseconds": {
            "mean": statistics.mean(asked),
            "median": statistics.median(asked),
            "p99": sorted(asked)[int(0.99 * len(asked))],
        },
        "step_microseconds": {"mean": statistics.mean(steps), "median": statistics.median(steps)},
        "target_microseconds": TARGET,
    }
    rows = [
        ["choose, ask, admit", *(round(v) for v in result["admission_microseconds"].values())],
        ["once per step", *(round(v) for v in result["step_microseconds"].values()), None],
    ]
    print_table(f"microseconds with {RUNNING} running", ["", "mean", "median", "p99"], rows)
    save("admission", {"admission": result})


if __name__ == "__main__":
    main()
