"""What it costs the packer that a pipelined engine is ahead of it, on simulated cards.

    python tests/bench/pipelined.py [--answers 8,16,30,64,128,256,512] [--spreads 0,0.7]
        [--cases 27b:rtx3090:300,…] [--seeds 3]

On CUDA vLLM has two batches in flight and a core that steps by itself. Whoever hears that a request
has ended can refill its room no sooner than two steps later, in the core's queue one step later.
For models, cards and prompts with which the cache is the limit, and answers of each length (all
alike, or spread as a lognormal of that sigma), requests a second with our admission

- ``ours``: told of every step as late as beside such an engine, room promised ahead;
- ``waits``: the same, but room is given away only when the end is seen (as it was before);
- ``at once``: the same engine, two batches in flight, but its ends are seen as soon as it sees
  them, and what is admitted is there for the very next step it schedules;
- ``one batch``: an engine with one batch in flight, whose freed room the very next step takes:
  what pipelining itself costs where the cache is the limit, if its hidden Python gained nothing.

Written: tests/bench/results/pipelined.json.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from multiprocessing import Pool
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # `pipeline`, from any folder

from peers.measure import print_table, save
from peers.simulated import MAX_TOKENS, made_for

from pipeline.admission.policies.packed import Packed
from pipeline.admission.policy import Limits
from pipeline.budget.step_time import StepWork
from pipeline.rows.trace import TraceRow
from pipeline.simulate.card import CardSetup, CardSim

CASES = "27b:rtx3090:300,12b:rtx4060ti-16gb:1500,27b:rtx3090:300:even,12b:rtx3060:100:even"
# steps that an end is noticed late, steps that the policy is behind, and whether it knows that
ENGINES = {
    "ours": (1, 2, True),
    "waits": (1, 2, False),
    "at once": (1, 1, False),
    "one batch": (0, 0, True),
}
TARGET = 0.99
_WAVES = 40  # times that the cache is filled
_MIDDLE = (0.15, 0.85)  # of the rows that end: neither the start nor the tail counts
_PROMPT_SIGMA = 0.5


class EvenSteps:
    """A step takes as long as any other, whatever is in it: only how full it is counts."""

    def seconds(self, work: StepWork) -> float:
        return 0.02 * work.steps


def lengths(dice: random.Random, middle: int, sigma: float, count: int) -> list[int]:
    """With mean ``middle``."""
    drawn = [dice.lognormvariate(-sigma * sigma / 2, sigma) for _ in range(count)]
    return [max(1, round(middle * value)) for value in drawn]


def trace(prompt: int, answer: int, spread: float, rows: int, seed: int) -> list[TraceRow]:
    dice = random.Random(f"{prompt} {answer} {spread} {seed}")
    prompts = lengths(dice, prompt, _PROMPT_SIGMA, rows)
    answers = lengths(dice, answer, spread, rows)
    return [TraceRow(i, p, a) for i, (p, a) in enumerate(zip(prompts, answers, strict=True))]


def steady(setup: CardSetup, rows: Sequence[TraceRow], *, knows: bool) -> dict[str, float]:
    """Requests a second while the engine is full, and the share of tokens computed again."""
    card = CardSim(setup, "packed", max_tokens=MAX_TOKENS)
    if not knows:
        sizes = (setup.pool_blocks, setup.max_num_seqs, setup.max_num_batched_tokens, MAX_TOKENS)
        card._policy = Packed(Limits(setup.layout, *sizes))
    card.ending = True
    card.give(rows)
    ends: list[float] = []
    while card.busy:
        ended = card.step()
        ends += [card.now] * len(ended)
    first, last = (int(share * len(ends)) for share in _MIDDLE)
    return {
        "rate": (last - first) / (ends[last] - ends[first]),
        "kv_use": card.totals.kv / card.totals.busy,
        "recomputed_share": card.recomputed_tokens / card.computed_tokens,
    }


def compare(case: tuple[str, int, float, int]) -> dict[str, Any]:
    name, answer, spread, seeds = case
    model, card, prompt, *even = name.split(":")
    made = made_for(model, card, trace(int(prompt), answer, spread, 400, 0))
    rows = min(_WAVES * made.held, 4000)
    found: dict[str, list[dict[str, float]]] = {engine: [] for engine in ENGINES}
    for seed in range(seeds):
        replayed = trace(int(prompt), answer, spread, max(rows, 200), seed)
        for engine, (overrun, behind, knows) in ENGINES.items():
            time = EvenSteps() if even else made.setup.step_time
            setup = replace(made.setup, step_time=time, overrun=overrun, steps_ahead=behind)
            found[engine].append(steady(setup, replayed, knows=knows))
    rate = {e: statistics.mean(f["rate"] for f in found[e]) for e in ENGINES}
    ours = found["ours"]
    return {
        "case": name,
        "answer": answer,
        "spread": spread,
        "held_in_the_mean": made.held,
        "max_num_seqs": made.setup.max_num_seqs,
        "rate": rate,
        "kv_use": statistics.mean(f["kv_use"] for f in found["at once"]),
        "to_at_once": rate["ours"] / rate["at once"],
        "waits_to_at_once": rate["waits"] / rate["at once"],
        "to_one_batch": rate["ours"] / rate["one batch"],
        "at_once_to_one_batch": rate["at once"] / rate["one batch"],
        "recomputed_share": statistics.mean(f["recomputed_share"] for f in ours),
        "recomputed_at_once": statistics.mean(f["recomputed_share"] for f in found["at once"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--answers", default="8,16,30,64,128,256,512")
    parser.add_argument("--spreads", default="0,0.7")
    parser.add_argument("--cases", default=CASES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    answers = [int(n) for n in asked.answers.split(",")]
    spreads = [float(s) for s in asked.spreads.split(",")]
    cases = [(*c, asked.seeds) for c in product(asked.cases.split(","), answers, spreads)]
    with Pool(asked.processes) as pool:
        found: Sequence[dict[str, Any]] = pool.map(compare, cases, chunksize=1)
    rows = [
        [
            f["case"],
            f["answer"],
            f["spread"],
            f["held_in_the_mean"],
            f"{f['kv_use']:.0%}",
            *(f"{f['rate'][engine]:.3g}" for engine in ENGINES),
            f"{f['to_at_once']:.3f}",
            f"{f['waits_to_at_once']:.3f}",
            f"{f['to_one_batch']:.3f}",
            f"{f['at_once_to_one_batch']:.3f}",
            f"{f['recomputed_share']:.1%}",
            f"{f['recomputed_at_once']:.1%}",
        ]
        for f in found
    ]
    head = ["case", "answer", "spread", "held", "kv", *ENGINES, "ours/at once", "waits/at once"]
    head += ["ours/one", "at once/one", "again", "again at once"]
    print_table("requests a second, and ratios of them", head, rows)
    ratios = [f["to_at_once"] for f in found]
    print(f"ours to at once: mean {statistics.mean(ratios):.3f}, least {min(ratios):.3f}")
    if asked.cases == CASES and asked.answers == parser.get_default("answers"):
        save("pipelined", {"pipelined": {"target": TARGET, "found": list(found)}})


if __name__ == "__main__":
    main()
