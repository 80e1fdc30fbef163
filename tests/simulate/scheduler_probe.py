"""Drives vLLM's own scheduler through workloads, without a model: what it did in every step.

A script, to be run in a process of its own: ``scheduler_probe.py short|long FOLDER``; it writes
FOLDER/answers.json.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

from tests.simulate.workloads import MAX_MODEL_LEN, SHORT, Arrival, Row, Workload, drive, long_ones

CONFIG = {
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "vocab_size": 1000,
    "max_position_embeddings": MAX_MODEL_LEN,
    "sliding_window": 512,
    "torch_dtype": "bfloat16",
}


class RealScheduler:
    """vLLM's Scheduler with the KV-cache groups of ``workload``'s model."""

    def __init__(self, workload: Workload, folder: Path, **more: Any) -> None:
        """``more``: further arguments of vLLM's engine."""
        from vllm.engine.arg_utils import EngineArgs
        from vllm.utils.hashing import sha256
        from vllm.v1.core.kv_cache_utils import (
            get_kv_cache_config_from_groups,
            get_kv_cache_groups,
            get_request_block_hasher,
            init_none_hash,
            resolve_kv_cache_block_sizes,
        )
        from vllm.v1.structured_output import StructuredOutputManager

        retention = {"prefix_cache_retention_interval": None} if workload.dense else {}
        config = EngineArgs(
            model=str(folder),
            skip_tokenizer_init=True,
            max_model_len=MAX_MODEL_LEN,
            max_num_seqs=workload.max_num_seqs,
            max_num_batched_tokens=workload.chunk,
            block_size=workload.block_size,
            enable_prefix_caching=workload.caching,
            disable_hybrid_kv_cache_manager=not workload.hybrid,
            num_gpu_blocks_override=workload.blocks + 1,
            async_scheduling=False,
            enforce_eager=True,
            **retention,
            **more,
        ).create_engine_config()
        config.cache_config.kv_cache_layout = "LBNHC"
        groups = get_kv_cache_groups(config, _specs(workload))
        cache = get_kv_cache_config_from_groups(config, groups, 1 << 30)
        config.cache_config.num_gpu_blocks = cache.num_blocks
        block_size, hash_block_size = resolve_kv_cache_block_sizes(cache, config)
        scheduler = config.scheduler_config.get_scheduler_cls()
        self.scheduler = scheduler(
            vllm_config=config,
            kv_cache_config=cache,
            structured_output_manager=StructuredOutputManager(config),
            block_size=block_size,
            hash_block_size=hash_block_size,
            log_stats=True,
        )
        init_none_hash(sha256)
        self._hasher = get_request_block_hasher(hash_block_size, sha256)
        self._rng = random.Random(1)
        self.preemptions = 0

    def add(self, number: int, arrival: Arrival) -> None:
        self.ask(number, list(arrival.ids), arrival.output_tokens)

    def ask(self, number: int, ids: list[int], output_tokens: int, **more: Any) -> None:
        """``more``: of its sampling parameters."""
        from vllm import SamplingParams
        from vllm.v1.request import Request

        sampling = SamplingParams(max_tokens=output_tokens, ignore_eos=True, **more)
        request = Request(
            request_id=str(number),
            prompt_token_ids=ids,
            sampling_params=sampling,
            pooling_params=None,
            block_hasher=self._hasher,
        )
        self.scheduler.add_request(request)

    def step(self, _lengths: dict[int, int]) -> Row:
        scheduler = self.scheduler
        output = scheduler.schedule()
        row = {
            "running": [int(r.request_id) for r in scheduler.running],
            "waiting": [int(r.request_id) for r in scheduler.waiting],
            "scheduled": [[int(i), n] for i, n in output.num_scheduled_tokens.items()],
            "free": scheduler.kv_cache_manager.block_pool.get_num_free_blocks(),
        }
        for outputs in self.sampled(output).values():
            if outputs.scheduler_stats is not None:
                row["usage"] = outputs.scheduler_stats.kv_cache_usage
        row["left"] = scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
        return row

    def sampled(self, output: Any) -> dict[int, Any]:
        """Each request that was computed to its end gets a token."""
        from vllm.v1.outputs import ModelRunnerOutput

        ids = list(output.num_scheduled_tokens)
        tokens = []
        for i in ids:
            request = self.scheduler.requests[i]
            done = request.num_computed_tokens >= request.num_tokens
            tokens.append([self._rng.randrange(1000)] if done else [])
        result = ModelRunnerOutput(ids, {i: n for n, i in enumerate(ids)}, tokens)
        every: dict[int, Any] = self.scheduler.update_from_output(output, result)
        return every

    def unfinished(self) -> int:
        return int(self.scheduler.get_num_unfinished_requests())


def _specs(workload: Workload) -> dict[str, Any]:
    """One vLLM spec for each layer, every sixth a global one."""
    import torch
    from vllm.v1.kv_cache_interface import FullAttentionSpec, SlidingWindowSpec

    geometry = workload.layout.geometry
    common = {
        "block_size": workload.block_size,
        "num_kv_heads": 1,
        "head_size": 64,
        "dtype": torch.bfloat16,
    }
    return {
        f"model.layers.{i}.self_attn.attn": FullAttentionSpec(**common)
        if (i + 1) % 6 == 0
        else SlidingWindowSpec(sliding_window=geometry.sliding_window, **common)
        for i in range(geometry.layers)
    }


def _main(which: str, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG))
    answers: dict[str, Any] = {}
    for workload in SHORT if which == "short" else long_ones():
        real = RealScheduler(workload, folder)
        answers[workload.name] = drive(workload, real.add, real.step, real.unfinished)
    if which == "short":  # vLLM takes longest to import: those of another probe as well
        from tests.engine.vllm.row_scheduler_probe import drives

        answers["rows"] = drives(folder)
    (folder / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]))
