"""The real engine under rackmill against vLLM's own `LLM.generate`, in process.

    python tests/bench/against_generate.py [held] [free] [tweets] [--rounds N]
        [--held-rows N] [--free-rows N] [--tweets-rows N] [--blocks N] [--sweep 6,8,10,12,14,20]

Three tables, every system in a fresh process, in turn; a rate is over the seconds from the first
step to the last completion (of `LLM.generate`: of that call), loading left out.

- held: ShareGPT rows, the KV cache held to ``--blocks`` blocks of 32 tokens, which is about ten
  requests. `LLM.generate` with vLLM's own limits, and with ``max_num_seqs`` swept (each value
  once; the best then takes part in every round).
- free: ShareGPT rows, the cache that rackmill chooses. `LLM.generate` with the same arguments; and,
  where rackmill unpacks int4 layers to bf16, also with the same kernels.
- tweets: few-shot labels, a fifth of the rows are repeated ones. rackmill gives each label's
  probability too; `LLM.generate` gives one greedy token out of the two choices, with vLLM's
  defaults (and, for comparison, with the libraries that vLLM's manual for CPUs says to preload,
  and with rackmill's engine arguments as well).

Answers of ShareGPT rows end at their recorded lengths; every system is told 2,048 tokens for
each row and does not see the lengths (see peers/hidden_lengths.py). Writes
tests/bench/results/against_generate.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # `pipeline`, from any folder

from peers.measure import Measured, in_turn, median, print_table, save
from peers.workplace import MEMORY, Workplace, labelled_tweets, sharegpt

from pipeline.engine.machine.host import cpu_environment
from pipeline.engine.vllm.cpu_compute import UNPACKED
from pipeline.engine.vllm.engine import environment

BLOCK_SIZE, LONGEST = 32, 3072  # tokens; the rows' prompts have up to 1,024
BARE = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "WARNING"}
PRELOADED = BARE | cpu_environment(0, 1)
OURS = "rackmill run"


def alike() -> dict[str, str]:
    """The environment that rackmill gives its engines."""
    return cpu_environment(0, 1) | environment(gpu=False, eager=True)


def held(folder: Path, rows: int, rounds: int, blocks: int, sweep: list[int]) -> dict[str, Any]:
    cache = {"num_gpu_blocks_override": blocks, "block_size": BLOCK_SIZE, "max_model_len": LONGEST}
    work = sharegpt(folder, rows, engine=cache)
    base = {k: v for k, v in work.arguments.items() if k not in _LIMITS}

    def generate(**limits: int) -> Callable[[], Measured]:
        return partial(work.peer, "generate.py", alike(), engine=base | limits)

    swept = in_turn({f"max_num_seqs {n}": generate(max_num_seqs=n) for n in sweep}, 1)
    systems = {OURS: work.rackmill, "LLM.generate, its own limits": generate()}
    if swept:
        name = max(swept, key=lambda n: work.tokens / swept[n][0]["seconds"])
        best = int(name.split()[-1])
        systems[f"LLM.generate, best of the sweep ({name})"] = generate(max_num_seqs=best)
    found = in_turn(systems, rounds)
    title = f"KV cache held to {blocks} blocks of {BLOCK_SIZE}: {rows} ShareGPT rows"
    others = {f"  once: {name}": runs for name, runs in swept.items()}
    return compare(title, work, found | others, target=1.05)


_LIMITS = ("max_num_seqs", "max_num_batched_tokens")


def free(folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    work = sharegpt(folder, rows)
    generate = partial(work.peer, "generate.py", alike(), engine=work.arguments)
    systems = {OURS: work.rackmill, "LLM.generate, same arguments": generate}
    if work.plan_once["engines"][0]["cpu_compute"] == "bf16":
        unpacked = work.arguments | {"worker_extension_cls": UNPACKED}
        systems["LLM.generate, same arguments and kernels"] = partial(
            work.peer, "generate.py", alike(), engine=unpacked
        )
    found = in_turn(systems, rounds)
    return compare(f"KV cache as chosen: {rows} ShareGPT rows", work, found, target=0.98)


def label(folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    work = labelled_tweets(folder, rows)
    generate = partial(partial, work.peer, "generate.py")
    systems = {
        OURS: work.rackmill,
        "LLM.generate, defaults": generate(BARE, engine=MEMORY),
        "  with the libraries preloaded": generate(PRELOADED, engine=MEMORY),
        "  and with rackmill's arguments": generate(alike(), engine=work.arguments),
    }
    found = in_turn(systems, rounds)
    targets = {"LLM.generate, defaults": 2.0}
    return compare(f"{rows} tweets, a fifth of them repeated", work, found, targets=targets)


def compare(
    title: str,
    work: Workplace,
    found: Mapping[str, list[Measured]],
    *,
    target: float | None = None,
    targets: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """One table; ``ratio``: rackmill's rate over the system's."""
    amount, unit = (work.tokens, "tokens/s") if work.tokens else (work.rows, "rows/s")
    ours = amount / median(found[OURS], "seconds")
    table = []
    shown = []
    for name, runs in found.items():
        rate = amount / median(runs, "seconds")
        wanted = (targets or {}).get(name, None if name.startswith(" ") else target)
        line = {
            "system": name.strip(),
            unit: round(rate, 2),
            "ratio": round(ours / rate, 3) if name != OURS else None,
            "target": wanted if name != OURS else None,
            "preemptions": round(median(runs, "preemptions")),
            "whole_seconds": round(median(runs, "whole_seconds"), 1),
            "runs": [round(amount / m["seconds"], 2) for m in runs],
        }
        table.append(line)
        each = " ".join(f"{v:.4g}" for v in line["runs"])
        shown.append([name, *list(line.values())[1:-1], each])
    head = ["system", unit, "rackmill ×", "target", "preemptions", "whole s", "runs"]
    print_table(title, head, shown)
    return {"title": title, "rows": work.rows, "tokens": work.tokens, "table": table}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("tables", nargs="*", default=["held", "free", "tweets"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--held-rows", type=int, default=96)
    parser.add_argument("--free-rows", type=int, default=192)
    parser.add_argument("--tweets-rows", type=int, default=1000)
    parser.add_argument("--blocks", type=int, default=750)
    parser.add_argument("--sweep", default="6,8,10,12,14,20")
    a = parser.parse_args()
    sweep = [int(n) for n in a.sweep.split(",") if n]
    makers: dict[str, Callable[[Path], dict[str, Any]]] = {
        "held": lambda folder: held(folder, a.held_rows, a.rounds, a.blocks, sweep),
        "free": lambda folder: free(folder, a.free_rows, a.rounds),
        "tweets": lambda folder: label(folder, a.tweets_rows, a.rounds),
    }
    for name in a.tables:
        with tempfile.TemporaryDirectory() as scratch:
            save("against_generate", {name: makers[name](Path(scratch))})


if __name__ == "__main__":
    main()
