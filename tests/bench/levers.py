"""What each choice is worth: Gemma 3 27B on 24 GB cards, vLLM as it comes against rackmill.

    python tests/bench/levers.py [--rows 1000] [--cards rtx3090,rtx4090] [--folder TRACES]

Simulated, steps timed by the card's roofline. The first line is `LLM(model)` with what vLLM 0.32
does by itself on such a card: vision tower loaded, KV cache in bf16, hybrid manager on, steps of
8,192 tokens, up to 256 requests, 92 % of the memory, its own admission. (It would refuse to start
with the model's whole context of 131,072 tokens: a user has to set ``max_model_len`` first.) Each
further line takes one more choice from what rackmill chooses for the card and the trace; the last
one is its admission. Writes tests/bench/results/levers.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[2]))  # `pipeline`, from any folder

from peers.measure import print_table, save
from peers.simulated import made_for, simulate
from peers.traces import write_traces

from pipeline.rows.trace import TraceRow, rows_of

MODEL = "27b"
TARGET = 1.5
# vllm/config and vllm/engine/arg_utils.py (get_batch_defaults) of 0.32, for `LLM` on a card below
# 70 GB
AS_IT_COMES: dict[str, Any] = {
    "gpu_memory_utilization": 0.92,
    "language_model_only": False,
    "kv_cache_dtype": "auto",
    "disable_hybrid_kv_cache_manager": False,
    "max_num_batched_tokens": 8192,
    "max_num_seqs": 256,
}
LEVERS: dict[str, tuple[str, ...]] = {
    "text only": ("language_model_only",),
    "limits of a step": ("max_num_batched_tokens", "max_num_seqs", "gpu_memory_utilization"),
    "type of the KV cache": ("kv_cache_dtype",),
    "hybrid manager or not": ("disable_hybrid_kv_cache_manager",),
}


def lines_for(card: str, rows: Sequence[TraceRow]) -> list[dict[str, Any]]:
    """One line for each lever, the plain engine first, the packer's admission last."""
    chosen = AS_IT_COMES | made_for(MODEL, card, rows).setup.arguments
    arguments = dict(AS_IT_COMES)
    steps = [("vLLM as it comes", dict(arguments), "engine")]
    for name, keys in LEVERS.items():
        arguments |= {key: chosen[key] for key in keys}
        steps.append((f"+ {name}", dict(arguments), "engine"))
    steps.append(("+ admission by future peak", dict(arguments), "packed"))
    lines: list[dict[str, Any]] = []
    for name, given, policy in steps:
        made = made_for(MODEL, card, rows, given)
        found = simulate(made.setup, policy, rows)
        before = lines[-1] if lines else None
        lines.append(
            {
                "step": name,
                "arguments": given,
                "blocks": made.setup.pool_blocks,
                "held_in_the_mean": made.held,
                **found,
                "of_this_lever": before["makespan_seconds"] / found["makespan_seconds"]
                if before
                else 1.0,
                "in_all": (lines or [found])[0]["makespan_seconds"] / found["makespan_seconds"],
            }
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--cards", default="rtx3090,rtx4090")
    parser.add_argument("--traces", default="sharegpt,tweets,mix")
    parser.add_argument("--folder", type=Path, help="traces that are there already")
    a = parser.parse_args()
    table: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = a.folder or Path(scratch)
        names = a.traces.split(",")
        there = {name: folder / f"{name}.parquet" for name in names}
        if not all(path.exists() for path in there.values()):
            there = write_traces(folder, a.rows)
        for card in a.cards.split(","):
            for name in names:
                rows = rows_of(pq.read_table(there[name]).to_pydict(), name)
                table[f"{card} {name}"] = lines_for(card, rows)
                show(f"27B on {card}, {name}", table[f"{card} {name}"])
    gains = {case: lines[-1]["in_all"] for case, lines in table.items()}
    summary: dict[str, Any] = {}
    for card in a.cards.split(","):
        of_card = {case: lines for case, lines in table.items() if case.startswith(card)}
        steps = [step["step"] for step in next(iter(of_card.values()))]
        summary[card] = {
            step: geometric_mean(lines[place]["of_this_lever"] for lines in of_card.values())
            for place, step in enumerate(steps)
        } | {"in all": geometric_mean(gains[case] for case in of_card)}
    rows_shown = [
        [step, *(summary[card][step] for card in summary)] for step in next(iter(summary.values()))
    ]
    print_table(f"geometric means over {', '.join(names)}", ["lever", *summary], rows_shown)
    print(f"\n  target {TARGET} x in all")
    save("levers", {"levers": {"rows": a.rows, "summary": summary, "table": table}})


def show(title: str, lines: Sequence[dict[str, Any]]) -> None:
    head = ["", "blocks", "holds", "req/s", "tokens/s", "batch", "KV use", "preempt", "×", "in all"]
    keys = ("step", "blocks", "held_in_the_mean", "requests_per_second")
    keys += ("output_tokens_per_second", "mean_batch", "mean_kv_use", "preemptions")
    keys += ("of_this_lever", "in_all")
    print_table(title, head, [[line[key] for key in keys] for line in lines])


if __name__ == "__main__":
    main()
