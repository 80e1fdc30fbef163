"""What `fit` predicts against vLLM itself: its KV-cache functions, and engines that are loaded
(by ``fit_probe.py``, in processes of their own)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.budget.engine_arguments import longest_request
from pipeline.budget.kv_layout import KvLayout
from pipeline.budget.weights import weight_bytes
from pipeline.engine.gpu.usable import offer
from pipeline.engine.machine.host import cpu_environment
from pipeline.engine.vllm.engine import environment
from pipeline.errors import MemoryNeed
from pipeline.model.catalogue import MODELS
from pipeline.model.folder import ModelFolder
from pipeline.model.geometry import Geometry
from tests.engine import fit_probe
from tests.engine.fit_probe import GIB, LENGTHS, LIVE, ODD, POOLS, SHAPED, SWEEP, shaped_geometry

pytestmark = pytest.mark.engine

# ---------------------------------------------------------------- vLLM's functions, no engine


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, launcher, model: ModelFolder) -> dict[str, Any]:
    """The real 270M in int4, with a pool and a context of no round numbers; and what vLLM's
    functions say where no engine is needed."""
    return _probe(tmp_path_factory.mktemp("live"), launcher, "live", model.path)


@pytest.fixture(scope="module")
def sweep(live) -> dict[str, Any]:
    return live["sweep"]


def _layout(name: str, block_size: int, chunk: int, width: int, hybrid: bool) -> KvLayout:
    return KvLayout(MODELS[name].geometry, block_size, chunk, width, hybrid)


def _concurrency(layout: KvLayout, blocks: int, tokens: int) -> float:
    """What vLLM prints as "Maximum concurrency": the pool over one longest request's charge."""
    return blocks / layout.prefill_blocks(tokens)


def test_every_pool_has_the_blocks_that_vllm_makes_of_it(sweep) -> None:
    """Five models, block sizes, tokens in flight, bf16 and fp8, hybrid manager on and off."""
    predicted = [[_layout(*case).num_gpu_blocks(pool) for pool in POOLS] for case in SWEEP]
    assert predicted == sweep["num_blocks"]


def test_maximum_concurrency_is_vllms_to_the_last_digit(sweep) -> None:
    predicted = [
        [_concurrency(_layout(*case), _layout(*case).num_gpu_blocks(POOLS[-1]), n) for n in LENGTHS]
        for case in SWEEP
    ]
    assert predicted == sweep["concurrency"]


def test_the_longest_request_is_the_one_that_vllm_finds(sweep) -> None:
    """vLLM's search (max_model_len -1) over a pool less its null block."""
    predicted = [
        [longest_request(_layout(*case), _layout(*case).num_gpu_blocks(pool) - 1) for pool in POOLS]
        for case in SWEEP
    ]
    assert predicted == sweep["longest"]


def test_groups_of_layers_are_sized_by_vllms_rule(sweep) -> None:
    predicted = []
    for n_global, n_sliding in ODD:
        layout = KvLayout(Geometry(n_global, n_sliding, 64, 64, 1, 1, 64, 512, 64, 4096), 16, 512)
        predicted.append([layout.num_gpu_blocks(GIB), _concurrency(layout, 1000, 4096)])
    assert predicted == sweep["odd"]


def test_every_sizes_parameters_are_those_that_transformers_makes(sweep) -> None:
    """Text model and vision tower, from the config classes alone (no weights in memory)."""
    for name, (text, whole) in sweep["parameters"].items():
        known = MODELS[name]
        weights = weight_bytes(known.geometry, "bf16", vision=known.vision_parameters)
        assert weights.text_bytes == text
        assert weights.total(vision=True) == whole


# ---------------------------------------------------------------- live engines


def test_a_live_engine_has_the_predicted_blocks(live, model: ModelFolder) -> None:
    facts = live["facts"]
    layout = KvLayout(model.geometry, facts["block_size"], live["in_flight"])
    assert facts["num_blocks"] == layout.num_gpu_blocks(LIVE["kv_cache_memory_bytes"]) - 1
    assert live["concurrency"] == _concurrency(layout, facts["num_blocks"] + 1, 3333)


def test_a_live_engine_on_a_cpu_has_one_batch_in_flight(live) -> None:
    batches = 2 if offer().gpus else 1
    assert live["in_flight"] == batches * LIVE["max_num_batched_tokens"]


def test_other_pools_and_contexts_of_the_live_engine_come_out_alike(
    live, model: ModelFolder
) -> None:
    """vLLM's own functions with the live engine's configuration and layers."""
    layout = KvLayout(model.geometry, 32, live["in_flight"])
    predicted = []
    for pool in POOLS:
        blocks = layout.num_gpu_blocks(pool)
        predicted.append([blocks, [_concurrency(layout, blocks, n) for n in LENGTHS]])
    assert live["others"] == predicted


def test_a_live_engines_weights_are_predicted_within_a_hundredth(live, model: ModelFolder) -> None:
    predicted = weight_bytes(model.geometry, "int4").total()
    loaded = live["facts"]["weights_bytes"]
    assert loaded == pytest.approx(predicted, rel=0.01) or (offer().gpus and not loaded)


def test_a_cache_that_is_too_large_is_known_as_that(live) -> None:
    """From it follows with how much less the next engine is loaded (``oom_fallback``)."""
    assert live["too_large"]["need"] == MemoryNeed.CACHE.name, live["too_large"]


@pytest.fixture(scope="module")
def shaped(tmp_path_factory: pytest.TempPathFactory, launcher, model: ModelFolder) -> Any:
    """A model of 4B's widths in bf16, of fewer layers, weights made up; the KV cache in fp8, the
    hybrid manager off."""
    return _probe(tmp_path_factory.mktemp("shaped"), launcher, "shaped", model.path)


@pytest.mark.long  # the blocks of fp8 are those of the sweep above, and of ./infra/test --cuda
def test_fp8_without_the_hybrid_manager_is_predicted_too(shaped) -> None:
    layout = KvLayout(shaped_geometry(), 32, shaped["in_flight"], dtype_bytes=1, hybrid=False)
    facts = shaped["facts"]
    assert facts["num_blocks"] == layout.num_gpu_blocks(SHAPED["kv_cache_memory_bytes"]) - 1
    assert shaped["concurrency"] == _concurrency(layout, facts["num_blocks"] + 1, 2000)


@pytest.mark.long
def test_weights_in_bf16_are_predicted_too(shaped) -> None:
    loaded = shaped["facts"]["weights_bytes"]
    predicted = weight_bytes(shaped_geometry(), "bf16").total()
    assert loaded == pytest.approx(predicted, rel=0.01) or (offer().gpus and not loaded)


def _probe(folder: Path, launcher: Any, what: str, *arguments: object) -> Any:
    answers = folder / "answers.json"
    variables = environment(gpu=bool(offer().gpus), eager=True)
    if not offer().gpus:
        variables |= cpu_environment(0, 1)
    variables["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = launcher.python(fit_probe.__file__, what, answers, *arguments, cwd=folder, **variables)
    assert done.code == 0, done.out + done.err
    return json.loads(answers.read_text())
