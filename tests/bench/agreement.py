"""`plan` and `simulate` about the same job: do they foretell the same seconds of work?

    python tests/bench/agreement.py [JOB ...] [--rows 600]

Each job is run once with the simulated engine, so that there is an output and the profile knows
how long its answers were. Then, for each model and card, `plan` foretells the same job over the
same rows, and `simulate --trace OUTPUT` replays what the run left. Both time steps by the card's
data sheet; `plan` knows a sample of the prompts and the lengths of the answers in 32 slices, the
trace knows every row. Printed besides: what `plan` says before any run, where the lengths of
answers are its guess. Target: within 10 % after a run. Takes about two minutes on two cores;
writes tests/bench/results/agreement.json.
"""

from __future__ import annotations

import argparse
import io
import json
import os
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
from pipeline.report.profile import load_profile, remember
from pipeline.spec.load import load_job

TARGET = 0.10
PLACES = (  # model, cards of `plan`, cards of `simulate`
    ("gemma-3-27b", "1x rtx3090", "rtx3090"),
    ("gemma-3-12b", "1x rtx4090", "rtx4090"),
    ("gemma-3-4b", "1x rtx4060-laptop", "rtx4060-laptop"),
    ("gemma-3-12b", "2x rtx3090", "rtx3090:2"),
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
    maker = ["infra/make_gsm8k.py", str(folder / "gsm8k.jsonl")]
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


def _out(folder: Path) -> dict[str, str]:
    return {"path": str(folder / "out")}


def compare(name: str, rows: int, folder: Path) -> list[dict[str, Any]]:
    """One line for each place of ``PLACES``."""
    job = folder / "job.yaml"
    job.write_text(yaml.safe_dump(JOBS[name](folder, rows)))
    known, unknown = ({"RACKMILL_PROFILE": str(folder / f)} for f in ("profile.jsonl", "none"))
    small = ["--rows", str(rows)]
    ran = run_json(
        [RACKMILL, "run", job, "--json", "--fresh", *small, "--set", "engine.kind=simulated"], known
    )
    _as_if_real(folder / "profile.jsonl", job)
    lines = []
    for model, planned, simulated in PLACES:
        plan = ["plan", job, "--json", *small, "--output", folder / "none-yet"]
        plan += ["--set", f"model={model}", "--gpus", planned]
        before, after = (rackmill(plan, environment) for environment in (unknown, known))
        trace = ["simulate", "--trace", ran["output"], "--model", model, "--gpu", simulated]
        replayed = rackmill([*trace, "--json"], known)
        lines.append(_line(name, model, planned, before, after, replayed))
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
    name: str, model: str, cards: str, before: Mapping[str, Any], after: Mapping[str, Any],
    replayed: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    simulated = replayed["makespan_seconds"]
    first, then = (_work(plan) for plan in (before, after))
    return {
        "job": name,
        "model": model,
        "cards": cards,
        "simulate_seconds": round(simulated, 2),
        "plan_seconds": round(then, 2),
        "difference": round(then / simulated - 1, 3),
        "before_any_run": round(first / simulated - 1, 3),
        "answers_before": before["completion_tokens_basis"],
        "plan_took": round(after["whole_seconds"], 1),
    }


def _work(plan: Mapping[str, Any]) -> float:
    return plan["phases"]["prompt_seconds"] + plan["phases"]["answer_seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("jobs", nargs="*", default=list(JOBS), metavar="JOB")
    parser.add_argument("--rows", type=int, default=600)
    a = parser.parse_args()
    worst = 0.0
    head = ["model", "cards", "simulate s", "plan s", "off", "before any run", "took s"]
    for name in a.jobs:
        with tempfile.TemporaryDirectory() as scratch:
            lines = compare(name, a.rows, Path(scratch))
        keys = tuple(lines[0])[1:]
        shown = [[one[key] for key in keys if key != "answers_before"] for one in lines]
        print_table(f"{name}: seconds of work, {a.rows} rows", head, shown)
        sys.stdout.flush()
        save("agreement", {name: {"rows": a.rows, "lines": lines}})
        worst = max(worst, *(abs(one["difference"]) for one in lines))
    print(f"\n  at most {worst:.1%} apart after a run; target {TARGET:.0%}")


if __name__ == "__main__":
    main()
