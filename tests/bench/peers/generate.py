"""vLLM's `LLM.generate` on one specification (see ``workplace.Workplace.peer``), in this process.

All prompts go in as text in one call. Prints one JSON object: ``seconds`` are those of the call.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def main() -> None:
    spec: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    texts = pq.read_table(spec["input"], columns=[spec["column"]]).column(0).to_pylist()
    prompts = [spec["template"].replace(spec["mark"], text) for text in texts]

    from vllm import LLM, SamplingParams
    from vllm.v1.core.sched.scheduler import Scheduler

    preempted = 0
    untouched = Scheduler._preempt_request

    def counted(self: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal preempted
        preempted += 1
        return untouched(self, *arguments, **named)

    Scheduler._preempt_request = counted
    llm = LLM(model=spec["model"], **spec["engine"])
    config = llm.llm_engine.vllm_config
    started = time.perf_counter()
    outputs = llm.generate(prompts, SamplingParams(**spec["sampling"]), use_tqdm=False)
    seconds = time.perf_counter() - started
    found = {
        "rows": len(outputs),
        "tokens": sum(len(output.outputs[0].token_ids) for output in outputs),
        "seconds": seconds,
        "preemptions": preempted,
        "max_num_seqs": config.scheduler_config.max_num_seqs,
        "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
        "block_size": config.cache_config.block_size,
        "blocks": config.cache_config.num_gpu_blocks,
    }
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
