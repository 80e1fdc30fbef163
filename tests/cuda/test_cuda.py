"""Engines on cards that are not here, as far as vLLM's CUDA build itself can tell: sm_86, 8.9 and
12.0; every size; the KV cache in bf16 and fp8; the hybrid manager on and off; 24 shapes of job."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.budget.weights import weight_bytes
from pipeline.model.catalogue import MODELS
from tests.cuda.checkpoints import SIZES, Shapes, write
from tests.cuda.conftest import KINDS
from tests.cuda.probe import JOBS

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
Asked = dict[str, dict[str, Any]]


def settings(asked: Asked) -> Iterator[dict[str, Any]]:
    return (row for answer in asked.values() for row in answer["settings"])


def models(asked: Asked) -> Iterator[dict[str, Any]]:
    return (model for answer in asked.values() for model in answer["models"])


def test_every_kind_of_card_was_asked_about_every_size(asked: Asked) -> None:
    assert set(asked) == set(KINDS)
    for kind, answer in asked.items():
        assert answer["capability"] == f"DeviceCapability(major={kind[:-2]}, minor={kind[-1]})"
        assert {row["size"] for row in answer["settings"]} == set(SIZES)
        for size in SIZES:  # on the large card all jobs fit
            jobs = [r["job"] for r in answer["settings"] if r["size"] == size]
            assert {tuple(job) for job in jobs} == set(JOBS)


def test_vllm_takes_the_settings_as_they_are(asked: Asked) -> None:
    for row in settings(asked):
        given = row["arguments"]
        assert row["max_num_seqs"] == given["max_num_seqs"]
        assert row["max_model_len"] == given["max_model_len"]
        assert row["chunk"] == given["max_num_batched_tokens"]
        assert row["hybrid"] is not given.get("disable_hybrid_kv_cache_manager", False)
        assert row["cache_dtype"] == given["kv_cache_dtype"] or given["kv_cache_dtype"] == "auto"
        assert row["prefix_caching"]


def test_engines_are_those_that_the_memory_model_is_of(asked: Asked) -> None:
    """V2 of the model runner, two batches in flight, one process."""
    for row in settings(asked):
        assert (row["v2"], row["in_flight"], row["async"], row["world"]) == (True, 2, True, 1)


def test_attention_is_flash_or_with_fp8_triton(asked: Asked) -> None:
    for row in settings(asked):
        fp8 = row["cache_dtype"].startswith("fp8")
        assert row["backend"] == ("TRITON_ATTN" if fp8 else "FLASH_ATTN")
    for model in models(asked):
        fp8 = model["dtype"] == "fp8"
        wanted = "TRITON_ATTN" if fp8 or model["images"] else "FLASH_ATTN"
        assert model["backends"] == [wanted], (model["size"], model["dtype"])


def test_every_layer_of_the_model_has_attention_of_its_kind(asked: Asked) -> None:
    for model in models(asked):
        geometry = MODELS[model["size"]].geometry
        assert model["heads"] == [geometry.head_dim]
        assert model["windows"] == [0, geometry.sliding_window]
        assert model["layers"] == geometry.layers


def test_cards_without_fp8_are_not_asked_for_it(asked: Asked) -> None:
    assert not any(r["cache_dtype"].startswith("fp8") for r in asked["8.6"]["settings"])
    for kind in ("8.9", "12.0"):
        assert any(r["cache_dtype"].startswith("fp8") for r in asked[kind]["settings"])


def test_int4_layers_are_marlins(asked: Asked) -> None:
    for model in models(asked):
        layers = MODELS[model["size"]].geometry.layers
        text = {k: n for k, n in model["kernels"].items() if not k.startswith("vision ")}
        text.pop("UnquantizedLinearMethod", None)  # of what joins vision tower and text
        # qkv, o, gate and up, down
        assert text == {"MarlinLinearKernel": 4 * layers}, (model["size"], text)


def test_tensors_of_the_model_are_those_of_the_checkpoint(
    asked: Asked, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("checkpoints")
    expected = {size: fused(write(root, size, vision=False).tensors) for size in SIZES}
    for model in models(asked):
        found = {
            name.removeprefix("language_model."): (dtype, tuple(shape))
            for name, (dtype, shape) in model["tensors"].items()
            if not name.startswith(("vision_tower.", "multi_modal_projector."))
            and ".self_attn.attn." not in name  # scales of a cache, of which checkpoints have none
        }
        found.pop("lm_head.weight", None)  # tied to the embeddings
        assert found == expected[model["size"]], model["size"]


def fused(tensors: Shapes) -> Shapes:
    """As vLLM has them: q, k, v as one matrix, gate and up as another; the rows add up."""
    parts = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj"}
    parts |= {"gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"}
    found: Shapes = {}
    for name, (dtype, shape) in tensors.items():
        module = name.split(".")[-2]
        name = name.replace(module, parts.get(module, module))
        if name in found and not name.endswith("_shape"):
            rows = found[name][1][0] + shape[0]
            shape = (rows, *shape[1:])
        found[name] = (dtype, shape)
    return found


def test_a_models_bytes_are_those_that_fit_counts(asked: Asked) -> None:
    """Marlin keeps codes and scales as large as the checkpoint's; the shapes are a few bytes."""
    for model in models(asked):
        known = MODELS[model["size"]]
        weights = weight_bytes(known.geometry, "int4", vision=known.vision_parameters)
        counted = weights.total(vision=model["images"])
        assert model["bytes"] == pytest.approx(counted, rel=2e-3), model["size"]


def test_blocks_are_those_that_vllm_makes(asked: Asked) -> None:
    compared = [pair for model in models(asked) for pair in model["blocks"]]
    assert len(compared) == sum(1 for _ in settings(asked))
    assert [ours for ours, _ in compared] == [vllms for _, vllms in compared]


def test_neighbouring_jobs_share_compiled_code(asked: Asked) -> None:
    """Prompts 3 % longer: the same hash, but where a limit lies between them."""
    rows = list(settings(asked))
    for row in rows:
        compiled = ("max_num_seqs", "max_model_len", "max_num_batched_tokens", "kv_cache_dtype")
        alike = all(row["arguments"][n] == row["neighbours_arguments"][n] for n in compiled)
        assert (row["hash"] == row["neighbours_hash"]) == alike
    shared = sum(row["hash"] == row["neighbours_hash"] for row in rows)
    assert shared > 0.9 * len(rows)


def test_a_models_jobs_are_compiled_for_a_few_times(asked: Asked) -> None:
    for answer in asked.values():
        for size in SIZES:
            of_it = [r for r in answer["settings"] if r["size"] == size]
            hashes = {r["hash"] for r in of_it}
            assert len(hashes) <= len(of_it) / 4, (size, len(hashes), len(of_it))


def test_no_compiler_of_cuda_is_within_reach(asked: Asked) -> None:
    for answer in asked.values():
        reached = answer["compilers"]
        assert reached == {"has_flashinfer": False, "sampler": False, "compilations": []}
        assert not any(row["autotune"] for row in answer["settings"])


def test_other_kinds_of_jobs_too(asked: Asked) -> None:
    for answer in asked.values():
        others = answer["others"]
        for name in ("json", "score", "eager"):
            assert others[name]["v2"], name
            assert others[name]["backend"] == "FLASH_ATTN", name
        assert others["score"]["chunk"] == 512


def test_the_way_down_for_want_of_memory_is_taken_by_vllm(asked: Asked) -> None:
    for kind, answer in asked.items():
        ladder = answer["others"]["ladder"]
        assert ladder
        for rung in ladder:
            fp8 = rung["cache_dtype"].startswith("fp8")
            assert rung["backend"] == ("TRITON_ATTN" if fp8 else "FLASH_ATTN")
        has_fp8 = any(rung["cache_dtype"].startswith("fp8") for rung in ladder)
        assert has_fp8 == (kind != "8.6")


def test_a_slot_of_two_cards_is_one_engine(asked: Asked) -> None:
    for answer in asked.values():
        slot = answer["two_cards"]
        assert (slot["world"], slot["executor"], slot["v2"]) == (2, "mp", True)
        assert slot["backend"] in ("FLASH_ATTN", "TRITON_ATTN")
