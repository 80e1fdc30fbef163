"""Which jobs an engine may serve that was loaded for another one."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import Job
from pipeline.engine.protocol import SEAT
from pipeline.engine.reuse import EngineSetup, engine_setup
from tests.support.samples import job

ARGUMENTS = {
    "max_model_len": 4096,
    "max_num_seqs": 64,
    "max_num_batched_tokens": 2048,
    "kv_cache_memory_bytes": 1 << 30,
    "block_size": 16,
    "enforce_eager": True,
}
LIMITS = ["max_model_len", "max_num_seqs", "max_num_batched_tokens", "kv_cache_memory_bytes"]
SCHEMA = {"type": "object", "properties": {"mood": {"enum": ["glad", "sad"]}}}


def setup(
    asked: Job | None = None,
    model: str = "hash",
    environment: dict[str, str] | None = None,
    **arguments: Any,
) -> EngineSetup:
    found = {k: v for k, v in (ARGUMENTS | arguments).items() if v is not None}
    return engine_setup(asked or job(), model, environment or {"A": "1"}, found)


def test_an_engine_serves_a_job_that_needs_the_same() -> None:
    assert setup().serves(setup())


@pytest.mark.parametrize(
    "other",
    [
        job(name="other", output={"path": "elsewhere"}),
        job(prompt="Another one: {text}"),
        job(sampling={"max_tokens": 9, "temperature": 1.0}),
        job(label={"choices": ["a", "b"]}),
        job(label={"regex": "[a-z]+"}),
        job(resources={"workers": 2, "deadline": "8h"}),
        job(faults={"restarts": 0}),
    ],
)
def test_what_the_engine_is_not_loaded_with_makes_no_difference(other: Job) -> None:
    assert setup().serves(setup(other))
    assert setup(other).serves(setup())


@pytest.mark.parametrize("name", LIMITS)
def test_more_than_is_asked_for_is_enough_and_less_is_not(name: str) -> None:
    less = setup(**{name: ARGUMENTS[name] // 2})

    assert setup().serves(less)
    assert not less.serves(setup())


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_that_is_not_there_is_no_larger_one(name: str) -> None:
    without = setup(**{name: None})

    assert not setup().serves(without)
    assert not without.serves(setup())


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_on_which_the_job_insists_is_to_be_that(name: str) -> None:
    asked = ARGUMENTS[name] // 2
    insists = setup(job(engine={name: asked}), **{name: asked})

    assert not setup().serves(insists)
    assert insists.serves(insists)


@pytest.mark.parametrize(
    "change", [{"block_size": 32}, {"enforce_eager": False}, {"dtype": "float32"}]
)
def test_all_other_arguments_have_to_be_equal(change: dict[str, Any]) -> None:
    assert not setup().serves(setup(**change))
    assert not setup(**change).serves(setup())


@pytest.mark.parametrize(
    "other",
    [
        setup(model="another hash"),
        setup(environment={"A": "2"}),
        setup(environment={"A": "1", "B": "1"}),
        setup(job(score={})),
        setup(job(engine={"kind": "simulated"})),
        setup(job(label={"json_schema": SCHEMA})),
    ],
    ids=["model", "environment", "more environment", "scores", "kind", "schema"],
)
def test_what_is_no_argument_has_to_be_equal_too(other: EngineSetup) -> None:
    assert other.serves(other)
    assert not setup().serves(other)
    assert not other.serves(setup())


def test_schemas_are_told_apart() -> None:
    """vLLM reads from its configuration which backend is to hold answers to one."""
    more = SCHEMA | {"required": ["mood"]}

    assert not setup(job(label={"json_schema": SCHEMA})).serves(
        setup(job(label={"json_schema": more}))
    )


def test_simulated_engines_are_told_apart_by_how_they_behave() -> None:
    slow = job(engine={"kind": "simulated", "simulated": {"step_seconds": 0.1}})

    assert not setup(job(engine={"kind": "simulated"})).serves(setup(slow))


def test_an_engines_number_in_its_run_makes_no_difference() -> None:
    first, other = setup(environment={SEAT: "0"}), setup(environment={SEAT: "3"})

    assert first.serves(other)
