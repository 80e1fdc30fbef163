"""What an engine on a CPU computes int4 layers in."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.budget.cards.lookup import CARDS, GIB, Card, cpu_card
from pipeline.budget.engine_arguments import EngineChoice, PromptShape, choose_settings, setup_of
from pipeline.budget.weights import weight_bytes
from pipeline.model.catalogue import MODELS, Precision

ABLE, UNABLE = (cpu_card(32 * GIB, 8, native_bf16=able) for able in (True, False))


def choose(
    card: Card, *, model: str = "4b", precision: Precision = "int4", **given: Any
) -> EngineChoice:
    known = MODELS[f"gemma-3-{model}"]
    weights = weight_bytes(known.geometry, precision, vision=known.vision_parameters)
    shape = PromptShape(mean=40.0, longest=100, shared_prefix=10)
    return choose_settings(known.geometry, weights, card, shape, 10, given)


def test_bf16_where_the_processor_multiplies_it() -> None:
    choice = choose(ABLE)
    assert choice.arguments["cpu_compute"] == "bf16"
    assert "4.6 GB more memory" in choice.reasons["cpu_compute"]
    assert setup_of(choice.arguments, ABLE).unpacked


def test_int4_where_it_does_not() -> None:
    choice = choose(UNABLE)
    assert choice.arguments["cpu_compute"] == "int4"
    assert "no instructions for bf16" in choice.reasons["cpu_compute"]


def test_int4_where_the_memory_is_not_there_and_one_line_says_so() -> None:
    choice = choose(ABLE, model="27b")
    assert choice.arguments["cpu_compute"] == "int4"
    assert choice.reasons["cpu_compute"].endswith("GB where 34.4 GB are free")
    assert "\n" not in choice.reasons["cpu_compute"]
    assert not setup_of(choice.arguments, ABLE).unpacked


@pytest.mark.parametrize("parts", [2, 4])
def test_the_parts_of_an_engine_share_the_memory(parts: int) -> None:
    assert choose(ABLE, model="27b", tensor_parallel_size=parts).arguments["cpu_compute"] == "int4"
    assert choose(ABLE, tensor_parallel_size=parts).arguments["cpu_compute"] == "bf16"


@pytest.mark.parametrize("card", [ABLE, UNABLE])
@pytest.mark.parametrize("wanted", ["int4", "bf16"])
def test_what_the_job_says_is_taken(card: Card, wanted: str) -> None:
    choice = choose(card, cpu_compute=wanted)
    assert (choice.arguments["cpu_compute"], choice.reasons["cpu_compute"]) == (wanted, "given")


def test_auto_is_the_same_as_nothing() -> None:
    assert choose(ABLE, cpu_compute="auto").arguments == choose(ABLE).arguments


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_other_weights_leave_nothing_to_choose(precision: Precision) -> None:
    assert "cpu_compute" not in choose(ABLE, precision=precision, cpu_compute="bf16").arguments


def test_float32_activations_are_not_rounded_to_bf16() -> None:
    assert choose(ABLE, dtype="float32").arguments["cpu_compute"] == "int4"


def test_a_gpu_hears_nothing_of_it() -> None:
    assert "cpu_compute" not in choose(CARDS["rtx3090"], cpu_compute="bf16").arguments
