"""What several questions of a row cost beside one: five of the demo's tweets, on one engine.

    python tests/bench/questions.py [--rounds N]

One engine is loaded. Round by round the same 32 rows are answered for one question
(`sentiment` of jobs/questions.yaml by itself) and for all five, each with its own examples in
front, so that neither finds the other's rows in the cache; whatever else the machine does
strikes both alike. Loading is left out. Once with a tweet a row, once with eight. Writes
tests/bench/results/questions.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT))

from pipeline import Job, job_from  # noqa: E402
from pipeline.budget.engine_arguments import PromptShape  # noqa: E402
from pipeline.driver.plan.first_rows import first_rows  # noqa: E402
from pipeline.driver.plan.plan import check_input  # noqa: E402
from pipeline.engine.load import load_engine  # noqa: E402
from pipeline.engine.standalone.engine import standalone  # noqa: E402
from pipeline.model.store.resolve import resolve  # noqa: E402
from pipeline.prompt.builder import tokenizer_of  # noqa: E402
from pipeline.worker.answer_rows import Row, RowPlace, answer_rows  # noqa: E402

TARGET = 1.4
ROWS = 32
RESULT = HERE / "results/questions.json"
_CHILD = "RACKMILL_BENCH_CHILD"


def jobs() -> tuple[Job, Job]:
    """With the first question of the gallery's job alone, and with all of them."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "jobs/questions.yaml").read_text())
    name, question = next(iter(content["questions"].items()))
    examples = [e | {"answer": {name: e["answer"][name]}} for e in content["examples"]]
    alone = {**content, "questions": {name: question}, "examples": examples}
    return job_from(alone), job_from(content)


def texts_of(job: Job, each: int) -> list[Row]:
    """Rows of ``each`` tweets."""
    rows, _, _ = first_rows(check_input(job), 512)
    texts = [str(row["text"]) for row in rows]
    return [{"text": " ".join(texts[i : i + each])} for i in range(len(texts) - each + 1)]


def measure(rounds: int) -> dict[str, Any]:
    one, five = jobs()
    model = resolve(one.model, print)
    arguments = standalone().arguments(model, PromptShape(700, 2000, 0), 1, {})
    engine = load_engine(five, arguments, model, print)
    tokenizer = tokenizer_of(one, model)

    def seconds(job: Job, rows: Sequence[Row]) -> tuple[float, float]:
        places = [RowPlace("0/tweets", number) for number in range(len(rows))]
        started = time.monotonic()
        results = answer_rows(job, rows, places, engine, tokenizer)
        took = time.monotonic() - started
        assert not any(result.error for result in results)
        return took, statistics.fmean(result.prompt_tokens for result in results)

    facts = engine.facts
    found: dict[str, Any] = {"target": TARGET, "block_size": facts.block_size}
    found["device"] = facts.device
    for each, some_rounds in ((1, rounds), (8, -(-rounds // 2))):
        rows = texts_of(five, each)
        for job in (one, five):
            seconds(job, rows[:4])  # the examples come into the cache, and the code into memory
        took: list[tuple[float, float]] = []
        tokens = 0.0, 0.0
        for number in range(some_rounds):
            some = rows[4 + number * ROWS : 4 + (number + 1) * ROWS]
            (alone, first), (several, all_of_them) = seconds(one, some), seconds(five, some)
            took.append((alone, several))
            tokens = first, all_of_them
            print(
                f"{each}: {alone:.2f} s, {several:.2f} s, {several / alone:.2f} times", flush=True
            )
        ratios = sorted(several / alone for alone, several in took)
        found[f"tweets_a_row_{each}"] = {
            "rows": len(took) * ROWS,
            "tokens_a_row_one": round(tokens[0], 1),
            "tokens_a_row_five": round(tokens[1], 1),
            "rows_per_second_one": round(len(took) * ROWS / sum(a for a, _ in took), 2),
            "rows_per_second_five": round(len(took) * ROWS / sum(b for _, b in took), 2),
            "times": round(statistics.median(ratios), 3),
            "times_each_round": [round(ratio, 3) for ratio in ratios],
        }
        RESULT.write_text(json.dumps(found, indent=1) + "\n")
    engine.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    if _CHILD not in os.environ:  # the engine's environment has to be there from the start
        variables = standalone().environment(eager=True) | {_CHILD: "1"}
        ended = subprocess.run([sys.executable, *sys.argv], check=False, env=os.environ | variables)
        sys.exit(ended.returncode)
    os.chdir(ROOT)
    print(json.dumps(measure(given.rounds), indent=1))


if __name__ == "__main__":
    main()
