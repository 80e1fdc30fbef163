"""Engines outside of a run get what a job's get, on a card as it is now."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.budget.engine_arguments import PromptShape, choose_settings
from pipeline.budget.weights import weight_bytes
from pipeline.engine.gpu.environment import CUDA_ENVIRONMENT
from pipeline.engine.standalone import engine as module
from pipeline.engine.standalone.engine import standalone
from pipeline.engine.standalone.smoke import smoke_run
from pipeline.engine.vllm.engine import environment
from pipeline.errors import EngineFailed, UsageError
from pipeline.model.folder import ModelFolder
from tests.support.fake_cards import (
    GIB,
    RTX_2080_TI,
    RTX_3090,
    RTX_4060_LAPTOP,
    FakeCards,
    FakeProcess,
)
from tests.support.samples import write_model

_Show = Callable[..., FakeCards]
SHAPE = PromptShape(mean=256, longest=2048, shared_prefix=0)


@pytest.fixture
def model(tmp_path: Path) -> ModelFolder:
    return ModelFolder("tiny", write_model(tmp_path / "model"))


def arguments(model: ModelFolder, **given: Any) -> dict[str, Any]:
    return standalone().arguments(model, SHAPE, 256, given)


def test_on_a_free_card_they_are_a_jobs(model: ModelFolder, fake_cards: _Show) -> None:
    fake_cards(RTX_3090)
    weights = weight_bytes(model.geometry, model.precision)
    jobs = choose_settings(model.geometry, weights, standalone().card, SHAPE, 256, {}).arguments

    assert arguments(model) == jobs
    assert {"gpu_memory_utilization", "max_num_seqs", "kv_cache_dtype"} <= jobs.keys()


def test_beside_a_desktop_they_take_what_is_free(model: ModelFolder, fake_cards: _Show) -> None:
    """vLLM does not start where less is free than its share."""
    fake_cards(replace(RTX_4060_LAPTOP, used_bytes=3 * GIB))

    share = arguments(model)["gpu_memory_utilization"]
    assert 0.4 < share < 5 * GIB / (8188 << 20)


def test_on_a_card_full_of_a_game_it_is_said_who_has_it(
    model: ModelFolder, fake_cards: _Show
) -> None:
    game = FakeProcess(os.getpid(), 7 * GIB, graphics=True)
    fake_cards(replace(RTX_4060_LAPTOP, used_bytes=int(7.8 * GIB), processes=[game]))

    with pytest.raises(EngineFailed, match="are free, which is too little") as caught:
        arguments(model)
    assert f"(pid {os.getpid()}, 7.0 GiB)" in caught.value.hints[0]


def test_what_is_given_stays(model: ModelFolder, fake_cards: _Show) -> None:
    fake_cards(replace(RTX_4060_LAPTOP, used_bytes=3 * GIB))

    assert arguments(model, gpu_memory_utilization=0.7)["gpu_memory_utilization"] == 0.7


def test_the_process_sees_the_card_that_was_chosen(fake_cards: _Show) -> None:
    fake_cards(RTX_2080_TI, RTX_3090)

    assert standalone().environment(eager=True)["CUDA_VISIBLE_DEVICES"] == "1"


def test_on_the_processor_it_is_a_processors(model: ModelFolder, fake_cards: _Show) -> None:
    fake_cards(RTX_2080_TI, build="cpu")
    there = standalone()

    assert there.card.is_cpu
    assert "OMP_NUM_THREADS" in there.environment(eager=True)
    assert arguments(model)["enforce_eager"]


def test_with_the_cuda_build_and_no_card_nothing_begins(
    model: ModelFolder, fake_cards: _Show
) -> None:
    fake_cards(RTX_3090, error="LIB_RM_VERSION_MISMATCH")

    with pytest.raises(UsageError, match="reboot"):
        smoke_run(model.path)


def test_they_and_a_jobs_engines_have_the_same_environment(fake_cards: _Show) -> None:
    fake_cards(RTX_3090)
    variables = standalone().environment(eager=False)
    del variables[module.VARIABLE]

    assert variables == environment(gpu=True, eager=False)
    assert variables.items() >= CUDA_ENVIRONMENT.items()
