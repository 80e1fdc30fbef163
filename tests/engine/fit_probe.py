"""Asks vLLM itself: its KV-cache functions, and engines that it loads.

A script, to be run in a process of its own: ``fit_probe.py live|shaped ANSWERS.json MODEL``.
"""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline.errors import EngineOutOfMemory
from pipeline.model.catalogue import MODELS
from pipeline.model.folder import ModelFolder
from pipeline.model.geometry import Geometry

MIB = 1 << 20
GIB = 1 << 30
POOLS = (97 * MIB, GIB, 3 * GIB + 12_345, 14 * GIB)
LENGTHS = (512, 1000, 1024, 4096, 8192, 32_768)
SWEEP = list(
    itertools.product(
        sorted(MODELS),
        (16, 32, 128),  # block sizes
        (512, 2048, 16_384),  # tokens in flight
        (2, 1),  # bytes: bf16, fp8
        (True, False),  # hybrid manager
    )
)
# Layer counts that Gemma 3 does not have, for the rule by which vLLM sizes its groups.
ODD = [(2, 3), (3, 4), (4, 5), (1, 5), (5, 2), (6, 0), (0, 6), (3, 16)]
LIVE = {
    "kv_cache_memory_bytes": 333 * MIB,
    "max_model_len": 3333,
    "max_num_batched_tokens": 512,
    "block_size": 32,
    "max_num_seqs": 16,
    "enforce_eager": True,
    "cpu_compute": "int4",
}
SHAPED = {
    "kv_cache_memory_bytes": 200 * MIB,
    "max_model_len": 2000,
    "max_num_batched_tokens": 1024,
    "block_size": 32,
    "max_num_seqs": 4,
    "enforce_eager": True,
    "load_format": "dummy",
    "kv_cache_dtype": "fp8",
    "disable_hybrid_kv_cache_manager": True,
}
SHAPED_LAYERS = 7


def shaped_geometry() -> Geometry:
    of_4b = MODELS["gemma-3-4b"].geometry
    return Geometry(**(vars(of_4b) | {"n_global": 1, "n_sliding": SHAPED_LAYERS - 1}))


def _specs(geometry: Geometry, block_size: int, width: int) -> dict[str, Any]:
    """One vLLM spec for each layer, every sixth a global one."""
    import torch
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVQuantMode, SlidingWindowSpec

    common = {
        "block_size": block_size,
        "num_kv_heads": geometry.kv_heads,
        "head_size": geometry.head_dim,
        "dtype": torch.bfloat16 if width == 2 else torch.uint8,
        "kv_quant_mode": KVQuantMode.NONE if width == 2 else KVQuantMode.FP8_PER_TENSOR,
    }
    kinds = [True] * geometry.n_global + [False] * geometry.n_sliding
    return {
        f"layers.{i}": FullAttentionSpec(**common)
        if is_global
        else SlidingWindowSpec(sliding_window=geometry.sliding_window, **common)
        for i, is_global in enumerate(kinds)
    }


def _vllm_config(geometry: Geometry, in_flight: int, hybrid: bool, length: int) -> Any:
    """As much of vLLM's configuration as its KV-cache functions ask for."""
    from vllm.v1.kv_cache_layout import KVCacheLayout

    return SimpleNamespace(
        model_config=SimpleNamespace(max_model_len=length, original_max_model_len=length),
        scheduler_config=SimpleNamespace(disable_hybrid_kv_cache_manager=not hybrid),
        cache_config=SimpleNamespace(
            num_gpu_blocks_override=None,
            prefix_cache_retention_interval=None,
            get_resolved_kv_cache_layout=lambda: KVCacheLayout.LBNHC,
        ),
        parallel_config=SimpleNamespace(
            decode_context_parallel_size=1, tensor_parallel_size=1, pipeline_parallel_size=1
        ),
        attention_config=SimpleNamespace(hisparse_config=None),
        speculative_config=None,
        num_prefill_lookahead_tokens=0,
        max_in_flight_tokens=in_flight,
        device_config=SimpleNamespace(device_type="cpu"),
    )


def _ask(config: Any, specs: dict[str, Any], pool: int, length: int) -> tuple[int, float]:
    """(num_blocks, maximum concurrency)"""
    from vllm.v1.core.kv_cache_utils import (
        get_kv_cache_config_from_groups,
        get_kv_cache_groups,
        get_max_concurrency_for_kv_cache_config,
    )

    config.model_config.max_model_len = length
    groups = get_kv_cache_groups(config, dict(specs))
    made = get_kv_cache_config_from_groups(config, groups, pool)
    return made.num_blocks, get_max_concurrency_for_kv_cache_config(config, made)


def _longest(geometry: Geometry, config: Any, specs: dict[str, Any], pool: int) -> int:
    from vllm.v1.core.kv_cache_utils import get_kv_cache_configs

    config.model_config.max_model_len = geometry.context
    config.model_config.original_max_model_len = -1
    try:
        get_kv_cache_configs(config, [dict(specs)], [pool])
    except ValueError:
        return 0
    return int(config.model_config.max_model_len)


def _answer_sweep() -> dict[str, Any]:
    answers: dict[str, Any] = {"num_blocks": [], "concurrency": [], "longest": [], "odd": []}
    for name, block_size, in_flight, width, hybrid in SWEEP:
        geometry = MODELS[name].geometry
        specs = _specs(geometry, block_size, width)
        config = _vllm_config(geometry, in_flight, hybrid, 1024)
        answers["num_blocks"].append([_ask(config, specs, p, 1024)[0] for p in POOLS])
        answers["concurrency"].append([_ask(config, specs, POOLS[-1], n)[1] for n in LENGTHS])
        answers["longest"].append([_longest(geometry, config, specs, p) for p in POOLS])
    for n_global, n_sliding in ODD:
        geometry = Geometry(n_global, n_sliding, 64, 64, 1, 1, 64, 512, 64, 4096)
        specs = _specs(geometry, 16, 2)
        config = _vllm_config(geometry, 512, True, 4096)
        blocks, _ = _ask(config, specs, GIB, 4096)
        answers["odd"].append([blocks, _concurrency_of(config, specs, 1000, 4096)])
    answers["parameters"] = {
        name: _parameter_bytes(m.geometry, m.vision) for name, m in MODELS.items()
    }
    return answers


def _parameter_bytes(geometry: Geometry, vision: bool) -> tuple[int, int]:
    """Bytes in bf16 of transformers' text model, and of all of it."""
    import torch
    from transformers import (
        Gemma3Config,
        Gemma3ForCausalLM,
        Gemma3ForConditionalGeneration,
        Gemma3TextConfig,
    )

    text = Gemma3TextConfig(
        vocab_size=geometry.vocabulary,
        hidden_size=geometry.hidden,
        intermediate_size=geometry.ffn,
        num_hidden_layers=geometry.layers,
        num_attention_heads=geometry.query_heads,
        num_key_value_heads=geometry.kv_heads,
        head_dim=geometry.head_dim,
    )
    tower = {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 896,
        "patch_size": 14,
        "vision_use_head": False,
    }

    def size(model: Any) -> int:
        model.tie_weights()
        return sum(2 * p.numel() for p in model.parameters())

    with torch.device("meta"):
        alone = size(Gemma3ForCausalLM(text))
        if not vision:
            return alone, alone
        config = Gemma3Config(text_config=text, vision_config=tower)
        return alone, size(Gemma3ForConditionalGeneration(config))


def _concurrency_of(config: Any, specs: dict[str, Any], blocks: int, length: int) -> float:
    config.cache_config.num_gpu_blocks_override = blocks
    return _ask(config, specs, GIB, length)[1]


def _answer_engine(model: ModelFolder, given: dict[str, Any]) -> dict[str, Any]:
    from pipeline.engine.vllm.engine import VllmEngine

    engine = VllmEngine(model, given)
    config = engine._engine.vllm_config
    answers = {
        "facts": asdict(engine.facts),
        "in_flight": config.max_in_flight_tokens,
        "concurrency": config.cache_config.kv_cache_max_concurrency,
        "others": [],
    }
    if hasattr(engine._engine, "model_executor"):
        (specs,) = engine._engine.model_executor.get_kv_cache_specs()
    else:
        specs = _specs(model.geometry, engine.facts.block_size, 2)
    for pool in POOLS:
        asked = [_ask(config, specs, pool, n) for n in LENGTHS]
        answers["others"].append([asked[0][0], [concurrency for _, concurrency in asked]])
    engine.close()
    return answers


def _too_large(model: ModelFolder, given: dict[str, Any]) -> dict[str, Any]:
    """How an engine fails whose KV cache is larger than the machine."""
    from pipeline.engine.vllm.engine import VllmEngine

    try:
        VllmEngine(model, given | {"kv_cache_memory_bytes": 1 << 40}).close()
    except EngineOutOfMemory as e:
        return {"need": e.shortage.need.name, "message": str(e)}
    return {}


def _write_shaped(source: Path, target: Path) -> ModelFolder:
    """A checkpoint folder of 4B's shape without weights, and the tokenizer of another."""
    geometry = shaped_geometry()
    target.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (target / file).write_bytes((source / file).read_bytes())
    text = json.loads((source / "config.json").read_text())
    del text["quantization_config"]
    text |= {
        "hidden_size": geometry.hidden,
        "intermediate_size": geometry.ffn,
        "num_hidden_layers": geometry.layers,
        "num_attention_heads": geometry.query_heads,
        "num_key_value_heads": geometry.kv_heads,
        "sliding_window": geometry.sliding_window,
        "max_position_embeddings": geometry.context,
        "layer_types": [*text["layer_types"][:6], "sliding_attention"],
    }
    (target / "config.json").write_text(json.dumps(text))
    return ModelFolder("shaped", target)


def _main(what: str, answers: Path, *paths: str) -> None:
    if what == "live":
        content = _answer_engine(ModelFolder("gemma-3-270m", Path(paths[0])), LIVE)
        content["sweep"] = _answer_sweep()
        content["too_large"] = _too_large(ModelFolder("gemma-3-270m", Path(paths[0])), LIVE)
    else:
        shaped = _write_shaped(Path(paths[0]), answers.parent / "model")
        content = _answer_engine(shaped, SHAPED)
    answers.write_text(json.dumps(content))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
