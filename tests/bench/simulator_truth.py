"""The simulator against the real engine: makespan and preemptions, on the same rows.

    python tests/bench/simulator_truth.py [WORKLOAD ...] [--scale F] [--rounds N] [--seconds S]
    python tests/bench/simulator_truth.py --job

One engine in this process, its KV cache held so small that about ten requests fit, works off
each workload twice: handed all requests at once (vLLM's own admission), and by rackmill's packer.
The simulator replays the same rows with step times that were measured on this engine between the
runs, as `rackmill calibrate` measures them. Printed with each run: how far the simulator is off,
and the first step (if any) in which vLLM scheduled something else than the model of it.

Anything else that runs on the machine makes real runs longer, not simulated ones. So a second
figure compares only those steps during which no thread had to wait for a core.

With --job: `rackmill run` as it is, with all its cache, between two calibrations by the command.
Both write tests/bench/results/simulator_truth.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml
from real_engine import Recorded, WatchedEngine, with_engine_environment
from workloads import (
    MODEL,
    ROOT,
    Row,
    long_prompt_rows,
    recorded_job,
    sharegpt_rows,
    short_prompt_rows,
    tokenizer,
)

from pipeline.admission.policy import Limits, make_policy
from pipeline.budget.cards.lookup import cpu_card
from pipeline.budget.step_time import CalibratedTime, StepTime
from pipeline.budget.weights import weight_bytes
from pipeline.engine.machine.host import available_memory, cores
from pipeline.model.store.resolve import resolve
from pipeline.rows.trace import TraceRow
from pipeline.simulate.card import CardSetup, CardSim, run_card
from pipeline.simulate.card_setup import card_setup
from pipeline.simulate.vllm_model.step_fit import StepFit, fit_steps

RESULTS = Path(__file__).parent / "results/simulator_truth.json"
BLOCKS = 640  # of 32 tokens: about ten requests
WORKLOADS = {
    "sharegpt": (sharegpt_rows, 48),
    "short-prompts": (short_prompt_rows, 32),
    "long-prompts": (long_prompt_rows, 64),
}
ADMISSIONS = {"vLLM's own": "engine", "rackmill's": "packed"}
BUSY = 0.1  # share of a run, from which on its times say nothing
QUIET = 0.05  # share of a step that threads may wait for cores
JOB_ROWS = 96
TARGETS = {"makespan": 0.10, "preemptions": 0.25}
_SAME_START = 128  # tokens, from which on rows count as one prefix group


def trace_of(prompts: Sequence[list[int]], lengths: Sequence[int]) -> list[TraceRow]:
    """The rows as the simulator gets them: lengths, and who shares a prefix with whom."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, ids in enumerate(prompts):
        groups.setdefault(tuple(ids[:_SAME_START]), []).append(number)
    rows = [TraceRow(i, len(p), n) for i, (p, n) in enumerate(zip(prompts, lengths, strict=True))]
    for group, members in enumerate(groups.values()):
        if len(members) > 1:
            ends = [f(prompts[i] for i in members) for f in (min, max)]  # all others lie between
            common = next(
                (i for i, (a, b) in enumerate(zip(*ends, strict=False)) if a != b), len(ends[0])
            )
            for i in members:
                rows[i] = replace(rows[i], prefix_group=group, prefix_tokens=common)
    return rows


def simulate(watched: WatchedEngine, rows: list[TraceRow], policy: str, time: StepTime) -> CardSim:
    facts = watched.engine.facts
    setup = CardSetup(
        cpu_card(1 << 30, 2),
        watched.layout,
        facts.num_blocks,
        facts.max_num_seqs,
        facts.max_num_batched_tokens,
        facts.max_model_len,
        time,
    )
    card = CardSim(setup, policy, max_tokens=max(row.output_tokens for row in rows))
    run_card(card, rows)
    return card


def compared(run: Recorded, simulated: CardSim, time: StepTime) -> dict[str, Any]:
    """A real run beside the simulated one. Times in seconds; ``off``: shares of the real one."""
    predicted = [time.seconds(work) for work in run.works]
    quiet = [i for i, s in enumerate(run.seconds) if run.waited[i] <= QUIET * s]
    alone = sum(run.seconds[i] for i in quiet)
    return {
        "steps": len(run.works),
        "makespan": round(run.whole_seconds, 2),
        "simulated_makespan": round(simulated.now, 2),
        "makespan_off": round(simulated.now / run.whole_seconds - 1, 4),
        "waited_for_cores": round(sum(run.waited), 2),
        "machine_was_busy": sum(run.waited) > BUSY * run.whole_seconds,
        "quiet_steps": len(quiet),
        "quiet_steps_off": round(sum(predicted[i] for i in quiet) / alone - 1, 4)
        if quiet
        else None,
        "preemptions": run.preemptions,
        "simulated_preemptions": simulated.preemptions,
        "first_step_that_differs": run.differs,
    }


def whole_job(scale: float, seconds: float) -> list[dict[str, Any]]:
    """`rackmill run` with a cache that never fills, between two calibrations by the command."""
    rows = sharegpt_rows(round(JOB_ROWS * scale))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "job.yaml").write_text(yaml.safe_dump(recorded_job(folder, rows, "sharegpt")))
        before = rackmill("calibrate", MODEL, "--out", str(folder / "c.json"), "--seconds", seconds)
        ran = rackmill("run", str(folder / "job.yaml"), "--fresh")
        after = rackmill("calibrate", MODEL, "--out", str(folder / "c.json"), "--seconds", seconds)
    folder_of_model = resolve(MODEL, lambda line: None)
    prompts = [list(ids) for ids in tokenizer().encode_batch([text for text, _ in rows])]
    trace = trace_of(prompts, [length for _, length in rows])
    results = []
    for calibration in (before, after):
        setup = card_setup(
            folder_of_model.geometry,
            weight_bytes(folder_of_model.geometry, folder_of_model.precision),
            cpu_card(available_memory(), len(cores())),
            trace,
            max(row.output_tokens for row in trace),
            {},
            CalibratedTime.from_json(calibration, "the calibration"),
        )
        card = CardSim(setup, "packed", max_tokens=max(row.output_tokens for row in trace))
        run_card(card, trace)
        results.append(
            {
                "workload": "rackmill run",
                "rows": len(trace),
                "admission": "rackmill's",
                "steps": card.totals.steps,
                "makespan": ran["work_seconds"],
                "simulated_makespan": round(card.now, 2),
                "makespan_off": round(card.now / ran["work_seconds"] - 1, 4),
                "quiet_steps": sum(one["quiet"] for one in calibration["measured"]),
                "quiet_steps_off": None,
                "preemptions": ran["preemptions"],
                "simulated_preemptions": card.preemptions,
                "first_step_that_differs": None,
                "calibration_median_error": calibration["median_error"],
            }
        )
    return results


def rackmill(*arguments: object) -> dict[str, Any]:
    """What a command says with `--json`."""
    command = [str(Path(sys.executable).parent / "rackmill"), *map(str, arguments), "--json"]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout
    content: dict[str, Any] = json.loads(printed)
    return content


def record(path: Path, entry: dict[str, Any], run: Recorded, time: StepTime) -> None:
    """Every step of a run, for looking into a difference."""
    with path.open("a") as file:
        for seconds, waited, work in zip(run.seconds, run.waited, run.works, strict=True):
            step = {"seconds": seconds, "waited": waited, "predicted": time.seconds(work)}
            file.write(json.dumps(entry | step | {"work": asdict(work)}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS))
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of rows")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=40.0, help="of each calibration")
    parser.add_argument("--records", type=Path, help="write every step there, as JSON lines")
    parser.add_argument("--job", action="store_true", help="`rackmill run` instead, no watching")
    arguments = parser.parse_args()
    if arguments.job:
        results = whole_job(arguments.scale, arguments.seconds)
        show(results)
        write(results, None)
        return
    with_engine_environment()
    watched = WatchedEngine(
        MODEL,
        num_gpu_blocks_override=BLOCKS + 1,
        max_model_len=2048,
        kv_cache_memory_bytes=1 << 30,
    )
    measured = watched.probe(arguments.seconds)
    runs: list[tuple[str, str, list[TraceRow], Recorded]] = []
    for _ in range(arguments.rounds):
        for name in arguments.workloads:
            make, number = WORKLOADS[name]
            rows: list[Row] = make(round(number * arguments.scale))
            prompts = [list(ids) for ids in tokenizer().encode_batch([text for text, _ in rows])]
            lengths = [length for _, length in rows]
            for admission, policy in ADMISSIONS.items():
                facts, longest = watched.engine.facts, max(lengths)
                limits = Limits(watched.layout, facts.num_blocks, facts.max_num_seqs,
                              facts.max_num_batched_tokens, longest)  # fmt: skip
                ours = make_policy(policy, limits) if policy != "engine" else None
                run = watched.run(prompts, lengths, ours, longest)
                runs.append((name, admission, trace_of(prompts, lengths), run))
            measured += watched.probe(arguments.seconds / 2)
    fit = fit_steps(measured)
    print(
        f"step times: off by {fit.median_error:.1%} in the middle, {fit.largest_error:.1%} at most"
    )
    results = []
    for name, admission, trace, run in runs:
        simulated = simulate(watched, trace, ADMISSIONS[admission], fit.time)
        entry = {"workload": name, "rows": len(trace), "admission": admission}
        results.append(entry | compared(run, simulated, fit.time))
        if arguments.records is not None:
            record(arguments.records, entry, run, fit.time)
    show(results)
    write(results, fit)
    watched.engine.close()


def write(results: list[dict[str, Any]], fit: StepFit | None) -> None:
    """Put the results in place of earlier ones of the same workloads."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": []}
    new = {r["workload"] for r in results}
    content = known | {
        "targets": TARGETS,
        "kv_blocks": BLOCKS,
        "load_of_the_last_five_minutes": round(os.getloadavg()[1], 2),
        "runs": [r for r in known["runs"] if r["workload"] not in new] + results,
    }
    if fit is not None:
        errors = {"median_error": round(fit.median_error, 4)}
        errors |= {"largest_error": round(fit.largest_error, 4)}
        content["calibration"] = fit.time.as_json() | errors
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")


def show(results: list[dict[str, Any]]) -> None:
    print(f"{'workload':<14} {'admission':<11} {'makespan, s':>15} {'off':>7} {'quiet steps':>16} "
          f"{'preempted':>11}  first difference")  # fmt: skip
    for r in results:
        quiet = r["quiet_steps_off"]
        print(
            f"{r['workload']:<14} {r['admission']:<11} "
            f"{r['simulated_makespan']:>7.1f}/{r['makespan']:<7.1f} {r['makespan_off']:>+7.1%} "
            f"{r['quiet_steps']:>5}/{r['steps']:<4} "
            f"{'' if quiet is None else format(quiet, '+.1%'):>6} "
            f"{r['simulated_preemptions']:>5}/{r['preemptions']:<5}  "
            f"{'none' if r['first_step_that_differs'] is None else r['first_step_that_differs']}"
            f"{', machine busy: times say nothing' if r.get('machine_was_busy') else ''}"
        )
    medians = [abs(r["makespan_off"]) for r in results]
    print(f"simulated/real; makespan off by {statistics.median(medians):.1%} in the middle")


if __name__ == "__main__":
    main()
