"""vLLM's own `LLM.generate` on the rows that our loop gets: a process of its own.

An order on stdin: ``model`` (name, folder), ``arguments``, ``rows`` by answer length, ``card``,
``began``. Prints one line, as ``engine_child`` does.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.insert(0, str(Path(__file__).parents[1]))

from gpu_parts.board import Board, Watch
from gpu_parts.engine_child import SO_FAR, say
from gpu_parts.work import ANSWERS, prompts
from pipeline.engine.failure.child_guard import guard_children
from pipeline.engine.vllm.cpu_compute import for_vllm
from pipeline.model.folder import ModelFolder


def main() -> None:
    guard_children()
    order: dict[str, Any] = json.load(sys.stdin)
    part, board = order["parts"][0], Board(order["card"])
    say("begun", {"of": part})

    from vllm import LLM, SamplingParams

    name, path = order["model"]
    started = time.monotonic()
    try:
        arguments = for_vllm(ModelFolder(name, Path(path)), order["arguments"])
        llm = LLM(model=path, **arguments)
    except Exception as e:
        say(part, {"error": f"{type(e).__name__}: {str(e)[:600]}"})
        return
    loaded = time.monotonic() - started

    def generate(ids: list[list[int]], tokens: int) -> dict[str, Any]:
        sampling = SamplingParams(max_tokens=tokens, ignore_eos=True, temperature=0.0)
        asked: Any = [{"prompt_token_ids": prompt} for prompt in ids]
        began = time.perf_counter()
        with Watch(board) as watch:
            outputs = llm.generate(asked, sampling, use_tqdm=False)
        seconds = time.perf_counter() - began
        written = sum(len(output.outputs[0].token_ids) for output in outputs)
        return {
            "rows": len(outputs),
            "tokens": written,
            "seconds": round(seconds, 3),
            "tokens_per_second": round(written / seconds, 1),
            "card_idle_share": None if watch.busy is None else round(1 - watch.busy, 4),
        }

    generate(prompts(4, seed=0), 8)
    config = llm.llm_engine.vllm_config
    found: dict[str, Any] = {
        "load_seconds": round(loaded, 2),
        "blocks": config.cache_config.num_gpu_blocks,
        "max_num_seqs": config.scheduler_config.max_num_seqs,
        "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
    }
    for tokens in ANSWERS:
        found[str(tokens)] = generate(prompts(order["rows"][str(tokens)], seed=tokens), tokens)
        say(SO_FAR, found)
    say(part, {**found, "part_seconds": round(time.monotonic() - started, 2)})


if __name__ == "__main__":
    main()
