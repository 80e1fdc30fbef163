from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RowError, RowErrorType
from pipeline.job.sampling import Sampling
from tests.support.samples import quick

OVERRIDES = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 2),
        "max_tokens": st.integers(1, 4096),
        "top_k": st.integers(-1, 100),
        "seed": st.integers(0, 2**31),
        "stop": st.lists(st.text(min_size=1), max_size=3),
    },
)


def refusal(value: object) -> RowError:
    with pytest.raises(RowError) as caught:
        Sampling().overridden_by(value)
    return caught.value


@quick
@given(OVERRIDES)
def test_json_text_and_a_mapping_say_the_same(values: dict[str, object]) -> None:
    job = Sampling(top_p=0.5)

    assert job.overridden_by(json.dumps(values)) == job.overridden_by(values)


@quick
@given(OVERRIDES)
def test_a_row_changes_the_parameters_it_names_and_no_others(values: dict[str, object]) -> None:
    job = Sampling(top_p=0.5, seed=7, max_tokens=3)
    row = job.overridden_by(values)

    for name in Sampling.model_fields:
        expected = values.get(name, getattr(job, name))
        found = getattr(row, name)
        assert (list(found) if isinstance(expected, list) else found) == expected


def test_a_row_without_parameters_has_the_jobs() -> None:
    job = Sampling(top_p=0.5)

    assert job.overridden_by(None) is job


def test_null_members_of_a_struct_are_left_out() -> None:
    assert Sampling(top_p=0.5).overridden_by({"top_p": None, "top_k": 3}).top_p == 0.5


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    error = refusal({"temprature": 1})

    assert error.type is RowErrorType.INVALID_SAMPLING
    assert error.message == "sampling_params has no 'temprature'; did you mean 'temperature'?"


def test_a_wrong_value_is_refused_with_the_value() -> None:
    error = refusal('{"top_p": 2}')

    assert error.type is RowErrorType.INVALID_SAMPLING
    assert "sampling_params.top_p" in error.message
    assert "not 2" in error.message


@pytest.mark.parametrize("value", ["not json", "[1]", "3", 3, [1], ""])
def test_what_is_no_object_is_refused(value: object) -> None:
    assert refusal(value).type is RowErrorType.INVALID_SAMPLING


def test_the_least_length_is_not_above_the_most() -> None:
    """vLLM refuses it, and would do so only after the engine is loaded."""
    with pytest.raises(ValueError, match="min_tokens"):
        Sampling(min_tokens=20, max_tokens=10)


def test_vllm_gets_what_was_given_and_the_two_defaults_that_differ() -> None:
    assert Sampling().as_vllm() == {"temperature": 0.0, "max_tokens": 256}
    assert Sampling(stop=("a", "b")).as_vllm()["stop"] == ["a", "b"]


def test_more_stop_tokens_than_a_gpus_engine_takes_are_the_rows_error() -> None:
    """vLLM's model runner on GPUs has room for 128 with min_tokens, the model's own among them;
    the next one would end the engine."""
    Sampling(min_tokens=1, stop_token_ids=tuple(range(120)))
    with pytest.raises(RowError, match="stop_token_ids"):
        Sampling().overridden_by({"min_tokens": 1, "stop_token_ids": list(range(128))})
