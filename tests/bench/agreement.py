"""`plan` and `simulate` about the same job: do they foretell the same seconds of work?

    python tests/bench/agreement.py [JOB ...] [--rows 600] [--unseen]

Each job is run once with the simulated engine, so that there is an output and the profile knows
how long its answers were. Then, for each model and card, `plan` foretells the same job over the
same rows, and `simulate --trace OUTPUT` replays what the run left. Both time steps by the card's
data sheet; `plan` knows a sample of the prompts and the lengths of the answers in 32 slices, the
trace knows every row. Printed besides: what `plan` says before any run, where the lengths of
answers are its guess. Target: within 10 % after a run.

``--unseen``: jobs and cards that nothing was fitted to, few rows for a card, and answers of which
few are very long. There much depends on which card gets the longest and when, and the trace alone
knows the order of the rows. Takes about eight minutes each on two cores; writes
tests/bench/results/agreement.json.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))  # `pipeline`, from any folder

from peers.measure import print_table, run_json, save
from peers.unseen_traces import trace
from workloads import (
    MODEL,
    ROOT,
    long_prompt_rows,
    recorded_job,
    sharegpt_rows,
    tweets,
)

import pipeline
from pipeline.cli.main import main as program
from pipeline.job.file.load import load_job
from pipeline.report.profile import load_profile, remember

TARGET = 0.10
Places = Sequence[tuple[str, str, str]]
PLACES = (  # model, cards of `plan`, cards of `simulate`
    ("gemma-3-27b", "1x rtx3090", "rtx3090"),
    ("gemma-3-12b", "1x rtx4090", "rtx4090"),
    ("gemma-3-4b", "1x rtx4060-laptop", "rtx4060-laptop"),
    ("gemma-3-12b", "2x rtx3090", "rtx3090:2"),
)
UNSEEN_PLACES = (
    ("gemma-3-27b", "1x rtx5090", "rtx5090"),
    ("gemma-3-27b", "2x rtx3060", "rtx3060:2"),  # a slot of two cards
    ("gemma-3-4b", "2x rtx4060-laptop", "rtx4060-laptop:2"),
    ("gemma-3-12b", "5x rtx3060", "rtx3060:5"),
    ("gemma-3-12b", "1x rtx3090,1x rtx4090", "rtx3090,rtx4090"),
    ("gemma-3-4b", "1x rtx5090,2x rtx4060-laptop", "rtx5090,rtx4060-laptop:2"),
)
RACKMILL = Path(sys.executable).parent / "rackmill"


def labels(folder: Path, rows: int) -> dict[str, Any]:
    """The demo's job, a fifth of the rows repeated."""
    return tweets(folder, rows, duplicates=0.2)


def choices(folder: Path, rows: int) -> dict[str, Any]:
    """Choices of several tokens that differ in each of them."""
    job = tweets(folder, rows)
    names = ["very negative indeed", "rather negative", "rather positive", "very positive indeed"]
    shots = [
        {**shot, "answer": names[0 if shot["answer"] == "negative" else 3]}
        for shot in job["examples"]
    ]
    return job | {"name": "choices", "examples": shots, "label": {"choices": names}}


def sharegpt(folder: Path, rows: int) -> dict[str, Any]:
    return recorded_job(folder, sharegpt_rows(rows), "sharegpt")


def documents(folder: Path, rows: int) -> dict[str, Any]:
    """Long documents with short answers; half of the rows are about one of four documents."""
    return recorded_job(folder, long_prompt_rows(rows), "documents")


def questions(folder: Path, rows: int) -> dict[str, Any]:
    maker = ["tests/bench/make_gsm8k.py", str(folder / "gsm8k.jsonl")]
    subprocess.run([sys.executable, *maker], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    job: dict[str, Any] = yaml.safe_load((ROOT / "jobs/gsm8k.yaml").read_text())
    return job | {"input": {"path": str(folder / "gsm8k.jsonl")}, "output": _out(folder)}


def scores(folder: Path, rows: int) -> dict[str, Any]:
    texts = [text for text, _ in sharegpt_rows(rows)]
    (folder / "input").mkdir()
    pq.write_table(pa.table({"text": texts}), folder / "input/part-0.parquet")
    return {
        "name": "scores",
        "model": MODEL,
        "input": {"path": str(folder / "input")},
        "prompt": "{text}",
        "score": {},
        "output": {**_out(folder), "keep": []},
    }


JOBS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "tweets": labels,
    "choices": choices,
    "sharegpt": sharegpt,
    "documents": documents,
    "gsm8k": questions,
    "score": scores,
}


def drawn(name: str, order: str, seed: int) -> Callable[[Path, int], dict[str, Any]]:
    """Rows that are as long as those of a trace of `unseen.py`, of tokens drawn by chance."""

    def make(folder: Path, rows: int) -> dict[str, Any]:
        made, dice = trace(name, order, "held", seed, rows), random.Random(seed)
        begin = dice.choices(_TOKENS, k=max(row.prefix_tokens for row in made))
        prompts = [
            begin[: row.prefix_tokens]
            + dice.choices(_TOKENS, k=row.prompt_tokens - row.prefix_tokens)
            for row in made
        ]
        params = [{"max_tokens": row.output_tokens, "ignore_eos": True} for row in made]
        (folder / "input").mkdir()
        table = pa.table({"ids": prompts, "sampling_params": params})
        pq.write_table(table, folder / "input/part-0.parquet")
        return {
            "name": name,
            "model": MODEL,
            "input": {"path": str(folder / "input")},
            "prompt": {"column": "ids"},
            "sampling": {"max_tokens": 2048},
            "output": {**_out(folder), "keep": []},
        }

    return make


def teacher(folder: Path, rows: int) -> dict[str, Any]:
    """The likeliest tokens of questions' answers, as distillation wants them."""
    job = questions(folder, rows)
    kept = {key: job[key] for key in ("name", "model", "input", "output")}
    return kept | {"prompt": "{question}", "score": {"completion": "answer", "top_k": 16}}


def _out(folder: Path) -> dict[str, str]:
    return {"path": str(folder / "out")}


_TOKENS = range(1000, 200_000)  # plain ones of Gemma's vocabulary
UNSEEN_JOBS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "heavy, ascending": drawn("heavy", "ascending", 1),
    "heavy, shuffled": drawn("heavy", "ascending+", 1),  # the same rows
    "bimodal, sawtooth": drawn("bimodal", "sawtooth", 2),
    "correlated, by prompt": drawn("correlated", "by prompt", 3),
    "tweets, blocks": drawn("tweets", "blocks", 4),
    "gpqa, alternating": drawn("gpqa", "alternating", 5),
    "teacher": teacher,
}


def compare(
    make: Callable[[Path, int], dict[str, Any]],
    places: Places,
    rows: int,
    folder: Path,
    guesses: bool,
) -> list[dict[str, Any]]:
    """One line for each of ``places``. ``guesses``: with what `plan` says before any run, too."""
    job = folder / "job.yaml"
    job.write_text(yaml.safe_dump(make(folder, rows)))
    known, unknown = ({"RACKMILL_PROFILE": str(folder / f)} for f in ("profile.jsonl", "none"))
    small = ["--rows", str(rows)]
    ran = run_json(
        [RACKMILL, "run", job, "--json", "--fresh", *small, "--set", "engine.kind=simulated"], known
    )
    _as_if_real(folder / "profile.jsonl", job)
    lines = []
    for model, planned, simulated in places:
        plan = ["plan", job, "--json", *small, "--output", folder / "none-yet"]
        plan += ["--set", f"model={model}", "--gpus", planned]
        before = rackmill(plan, unknown) if guesses else None
        after = rackmill(plan, known)
        trace = ["simulate", "--trace", ran["output"], "--model", model, "--gpu", simulated]
        replayed = rackmill([*trace, "--json"], known)
        lines.append(_line(model, planned, before, after, replayed))
    return lines


def rackmill(arguments: Sequence[object], environment: Mapping[str, str]) -> dict[str, Any]:
    """What the command prints; in this process, for starting it takes longer than all it does."""
    os.environ.update(environment)
    sys.argv = ["rackmill", *map(str, arguments)]
    started = time.perf_counter()
    with redirect_stdout(io.StringIO()) as out, suppress(SystemExit):
        program()
    found: dict[str, Any] = json.loads(out.getvalue())
    return found | {"whole_seconds": time.perf_counter() - started}


def _as_if_real(profile: Path, job: Path) -> None:
    """Made-up answers teach nothing of real ones: here they are to, so the record says that a real
    engine gave them, on a card that nobody has."""
    plan = pipeline.plan(load_job(job), fresh=True)
    record = replace(load_profile(profile)[-1], template=plan.template, engine="vllm", card="none")
    profile.unlink()
    remember(record, profile)


def _line(
    model: str, cards: str, before: Mapping[str, Any] | None, after: Mapping[str, Any],
    replayed: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    simulated = replayed["makespan_seconds"]
    then = _work(after)
    guess = {}
    if before is not None:
        guess["before_any_run"] = round(_work(before) / simulated - 1, 3)
        guess["answers_before"] = before["completion_tokens_basis"]
    return {
        "model": model,
        "cards": cards,
        "simulate_seconds": round(simulated, 2),
        "plan_seconds": round(then, 2),
        "difference": round(then / simulated - 1, 3),
        **guess,
        "plan_took": round(after["whole_seconds"], 1),
    }


def _work(plan: Mapping[str, Any]) -> float:
    return plan["phases"]["prompt_seconds"] + plan["phases"]["answer_seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("jobs", nargs="*", metavar="JOB")
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--unseen", action="store_true")
    a = parser.parse_args()
    jobs, places = (UNSEEN_JOBS, UNSEEN_PLACES) if a.unseen else (JOBS, PLACES)
    worst = 0.0
    head = ["model", "cards", "simulate s", "plan s", "off"]
    head += ["took s"] if a.unseen else ["before any run", "took s"]
    for name in a.jobs or jobs:
        with tempfile.TemporaryDirectory() as scratch:
            lines = compare(jobs[name], places, a.rows, Path(scratch), not a.unseen)
        shown = [[v for key, v in one.items() if key != "answers_before"] for one in lines]
        print_table(f"{name}: seconds of work, {a.rows} rows", head, shown)
        sys.stdout.flush()
        save("agreement", {name: {"rows": a.rows, "lines": lines}})
        worst = max(worst, *(abs(one["difference"]) for one in lines))
    print(f"\n  at most {worst:.1%} apart after a run; target {TARGET:.0%}")


if __name__ == "__main__":
    main()
