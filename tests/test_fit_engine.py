"""What `fit` predicts against vLLM itself: its KV-cache functions, and engines that are loaded.

Run as a script, this file is the probe: in a process of its own it asks vLLM and writes the
answers down. The tests compare them with rackmill's arithmetic.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.budget.kv import KvLayout
from pipeline.budget.settings import longest_request
from pipeline.budget.weights import weight_bytes
from pipeline.engine.machine import cpu_environment, gpus, has_amx
from pipeline.engine.vllm_engine import environment
from pipeline.model.catalogue import MODELS
from pipeline.model.geometry import Geometry
from pipeline.model.store import ModelFolder

pytestmark = pytest.mark.engine

MIB = 1 << 20
GIB = 1 << 30
_POOLS = (97 * MIB, GIB, 3 * GIB + 12_345, 14 * GIB)
_LENGTHS = (512, 1000, 1024, 4096, 8192, 32_768)
_SWEEP = list(
    itertools.product(
        sorted(MODELS),
        (16, 32, 128),  # block sizes
        (512, 2048, 16_384),  # tokens in flight
        (2, 1),  # bytes: bf16, fp8
        (True, False),  # hybrid manager
    )
)
# Layer counts that Gemma 3 does not have, for the rule by which vLLM sizes its groups.
_ODD = [(2, 3), (3, 4), (4, 5), (1, 5), (5, 2), (6, 0), (0, 6), (3, 16)]

# ---------------------------------------------------------------- vLLM's functions, no engine


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, launcher) -> dict[str, Any]:
    return _probe(tmp_path_factory.mktemp("sweep"), launcher, "sweep")


def _layout(name: str, block_size: int, chunk: int, width: int, hybrid: bool) -> KvLayout:
    return KvLayout(MODELS[name].geometry, block_size, chunk, width, hybrid)


def test_every_pool_has_the_blocks_that_vllm_makes_of_it(sweep) -> None:
    """Five models, block sizes, tokens in flight, bf16 and fp8, hybrid manager on and off."""
    predicted = [[_layout(*case).num_blocks(pool) for pool in _POOLS] for case in _SWEEP]
    assert predicted == sweep["num_blocks"]


def test_maximum_concurrency_is_vllms_to_the_last_digit(sweep) -> None:
    predicted = [
        [_layout(*case).max_concurrency(_layout(*case).num_blocks(_POOLS[-1]), n) for n in _LENGTHS]
        for case in _SWEEP
    ]
    assert predicted == sweep["concurrency"]


def test_the_longest_request_is_the_one_that_vllm_finds(sweep) -> None:
    """vLLM's search (max_model_len -1) over a pool less its null block."""
    predicted = [
        [longest_request(_layout(*case), _layout(*case).num_blocks(pool) - 1) for pool in _POOLS]
        for case in _SWEEP
    ]
    assert predicted == sweep["longest"]


def test_groups_of_layers_are_sized_by_vllms_rule(sweep) -> None:
    predicted = []
    for n_global, n_sliding in _ODD:
        layout = KvLayout(Geometry(n_global, n_sliding, 64, 64, 1, 1, 64, 512, 64, 4096), 16, 512)
        predicted.append([layout.num_blocks(GIB), layout.max_concurrency(1000, 4096)])
    assert predicted == sweep["odd"]


# ---------------------------------------------------------------- live engines


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, launcher, model: ModelFolder) -> dict[str, Any]:
    """The real 270M in int4; a pool and a context of no round numbers."""
    return _probe(tmp_path_factory.mktemp("live"), launcher, "live", model.path)


_LIVE = {
    "kv_cache_memory_bytes": 333 * MIB,
    "max_model_len": 3333,
    "max_num_batched_tokens": 512,
    "block_size": 32,
    "max_num_seqs": 16,
    "enforce_eager": True,
}


def test_a_live_engine_has_the_predicted_blocks(live, model: ModelFolder) -> None:
    facts = live["facts"]
    layout = KvLayout(model.geometry, facts["block_size"], live["in_flight"])
    assert facts["num_blocks"] == layout.num_blocks(_LIVE["kv_cache_memory_bytes"]) - 1
    assert live["concurrency"] == layout.max_concurrency(facts["num_blocks"] + 1, 3333)


def test_a_live_engine_on_a_cpu_has_one_batch_in_flight(live) -> None:
    batches = 2 if gpus() else 1
    assert live["in_flight"] == batches * _LIVE["max_num_batched_tokens"]


def test_other_pools_and_contexts_of_the_live_engine_come_out_alike(
    live, model: ModelFolder
) -> None:
    """vLLM's own functions with the live engine's configuration and layers."""
    layout = KvLayout(model.geometry, 32, live["in_flight"])
    predicted = []
    for pool in _POOLS:
        blocks = layout.num_blocks(pool)
        predicted.append([blocks, [layout.max_concurrency(blocks, n) for n in _LENGTHS]])
    assert live["others"] == predicted


def test_a_live_engines_weights_are_predicted_within_a_hundredth(live, model: ModelFolder) -> None:
    predicted = weight_bytes(model.geometry, "int4").total(amx=has_amx())
    loaded = live["facts"]["weights_bytes"]
    assert loaded == pytest.approx(predicted, rel=0.01) or (gpus() and not loaded)


@pytest.fixture(scope="module")
def shaped(tmp_path_factory: pytest.TempPathFactory, launcher, model: ModelFolder) -> Any:
    """A model of 4B's widths and with its vision tower, of fewer layers, weights made up; the KV
    cache in fp8, the hybrid manager off."""
    return _probe(tmp_path_factory.mktemp("shaped"), launcher, "shaped", model.path)


_SHAPED = {
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
_SHAPED_LAYERS = 7


def _shaped_geometry() -> Geometry:
    of_4b = MODELS["gemma-3-4b"].geometry
    return Geometry(**(vars(of_4b) | {"n_global": 1, "n_sliding": _SHAPED_LAYERS - 1}))


def test_fp8_without_the_hybrid_manager_is_predicted_too(shaped) -> None:
    layout = KvLayout(_shaped_geometry(), 32, shaped["in_flight"], dtype_bytes=1, hybrid=False)
    facts = shaped["facts"]
    assert facts["num_blocks"] == layout.num_blocks(_SHAPED["kv_cache_memory_bytes"]) - 1
    assert shaped["concurrency"] == layout.max_concurrency(facts["num_blocks"] + 1, 2000)


def test_text_only_leaves_the_vision_tower_out(shaped) -> None:
    weights = weight_bytes(_shaped_geometry(), "bf16", vision=True)
    loaded = shaped["facts"]["weights_bytes"]
    if loaded:
        assert loaded == pytest.approx(weights.total(), rel=0.01)


# ---------------------------------------------------------------- the probe


def _probe(folder: Path, launcher: Any, what: str, *arguments: object) -> Any:
    answers = folder / "answers.json"
    variables = environment(gpu=bool(gpus()), eager=True)
    if not gpus():
        variables |= cpu_environment(0, 1)
    variables["PYTHONPATH"] = str(Path(__file__).parents[1])
    done = launcher.python(__file__, what, answers, *arguments, cwd=folder, **variables)
    assert done.code == 0, done.out + done.err
    return json.loads(answers.read_text())


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
    for name, block_size, in_flight, width, hybrid in _SWEEP:
        geometry = MODELS[name].geometry
        specs = _specs(geometry, block_size, width)
        config = _vllm_config(geometry, in_flight, hybrid, 1024)
        answers["num_blocks"].append([_ask(config, specs, p, 1024)[0] for p in _POOLS])
        answers["concurrency"].append([_ask(config, specs, _POOLS[-1], n)[1] for n in _LENGTHS])
        answers["longest"].append([_longest(geometry, config, specs, p) for p in _POOLS])
    for n_global, n_sliding in _ODD:
        geometry = Geometry(n_global, n_sliding, 64, 64, 1, 1, 64, 512, 64, 4096)
        specs = _specs(geometry, 16, 2)
        config = _vllm_config(geometry, 512, True, 4096)
        blocks, _ = _ask(config, specs, GIB, 4096)
        answers["odd"].append([blocks, _concurrency_of(config, specs, 1000, 4096)])
    return answers


def _concurrency_of(config: Any, specs: dict[str, Any], blocks: int, length: int) -> float:
    config.cache_config.num_gpu_blocks_override = blocks
    return _ask(config, specs, GIB, length)[1]


def _answer_engine(model: ModelFolder, given: dict[str, Any]) -> dict[str, Any]:
    from dataclasses import asdict

    from pipeline.engine.vllm_engine import VllmEngine

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
    for pool in _POOLS:
        asked = [_ask(config, specs, pool, n) for n in _LENGTHS]
        answers["others"].append([asked[0][0], [concurrency for _, concurrency in asked]])
    engine.close()
    return answers


def _write_shaped(source: Path, target: Path) -> ModelFolder:
    """A checkpoint folder of 4B's shape without weights, and the tokenizer of another."""
    geometry = _shaped_geometry()
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
        "layer_types": text["layer_types"][:6] + ["sliding_attention"],
    }
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "dtype": "bfloat16",
        "text_config": text,
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 896,
            "patch_size": 14,
            "vision_use_head": False,
        },
        "mm_tokens_per_image": 256,
        "boi_token_index": 255_999,
        "eoi_token_index": 256_000,
        "image_token_index": 262_143,
        "tie_word_embeddings": True,
    }
    (target / "config.json").write_text(json.dumps(config))
    preprocessor = {
        "image_processor_type": "Gemma3ImageProcessor",
        "processor_class": "Gemma3Processor",
        "size": {"height": 896, "width": 896},
        "image_seq_length": 256,
    }
    (target / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return ModelFolder("shaped", target)


def _main(what: str, answers: Path, *paths: str) -> None:
    if what == "sweep":
        content = _answer_sweep()
    elif what == "live":
        content = _answer_engine(ModelFolder("gemma-3-270m", Path(paths[0])), _LIVE)
    else:
        shaped = _write_shaped(Path(paths[0]), answers.parent / "model")
        content = _answer_engine(shaped, _SHAPED | {"language_model_only": True})
    answers.write_text(json.dumps(content))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
