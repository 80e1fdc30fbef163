from __future__ import annotations

from typing import Any

import pytest

from pipeline import Job
from pipeline.job.fingerprint import digest, fingerprint_parts
from tests.support.samples import job

LABEL = {"choices": ["a", "b"]}


def fingerprint(of: Job, model_hash: str = "m", input_hash: str = "i") -> str:
    return digest(fingerprint_parts(of, model_hash=model_hash, input_hash=input_hash))


def schema(**properties: Any) -> dict[str, Any]:
    return {"label": {"json_schema": {"type": "object", "properties": properties}}}


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "another"},
        {"engine": {"max_num_seqs": 3, "block_size": 16, "enforce_eager": True}},
        {"engine": {"kv_cache_memory_bytes": 1 << 30, "tensor_parallel_size": 2}},
        {"engine": {"simulated": {"output_tokens": 99}}},
        {"resources": {"workers": 7}},
        {"duplicates": {"answer_once": False}},
        {"duplicates": {"store": "elsewhere"}},
        {"output": {"path": "elsewhere"}},
        {"input": {"path": "./in.parquet"}},
        {"model": "the/same/weights"},
    ],
)
def test_what_decides_no_row_leaves_it_as_it_is(changes: dict[str, Any]) -> None:
    """Rows and weights come in by their hashes, not by what they are called."""
    assert fingerprint(job(**changes)) == fingerprint(job())


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "{text} "},
        {"prompt": {"jinja": "{text}"}},
        {"prompt": {"column": "text"}},
        {"prompt": None, "messages": [{"role": "user", "content": "{text}"}]},
        {"instructions": "be brief"},
        {"examples": [{"text": "x", "answer": "a"}]},
        {"label": LABEL},
        {"label": {"regex": "a|b"}},
        {"label": LABEL | {"gold": "truth"}},
        {"sampling": {"temperature": 0.5}},
        {"sampling": {"max_tokens": 5}},
        {"sampling": {"seed": 1}},
        {"sampling": {"stop": "\n"}},
        {"output": {"path": "out", "keep": []}},
        {"output": {"path": "out", "keep": ["text"]}},
        {"engine": {"kind": "simulated"}},
    ],
)
def test_what_decides_rows_changes_it(changes: dict[str, Any]) -> None:
    assert fingerprint(job(**changes)) != fingerprint(job())


def test_weights_and_rows_change_it() -> None:
    assert len({fingerprint(job()), fingerprint(job(), "m2"), fingerprint(job(), "m", "i2")}) == 3


def test_the_order_of_choices_changes_it() -> None:
    assert fingerprint(job(label=LABEL)) != fingerprint(job(label={"choices": ["b", "a"]}))


def test_the_order_of_kept_columns_changes_it() -> None:
    one, two = ({"path": "out", "keep": keep} for keep in (["a", "b"], ["b", "a"]))

    assert fingerprint(job(output=one)) != fingerprint(job(output=two))


def test_the_order_of_schema_properties_changes_it() -> None:
    """It is the order in which they are written, and that of the columns."""
    a, b = {"type": "string"}, {"type": "string"}

    assert fingerprint(job(**schema(a=a, b=b))) != fingerprint(job(**schema(b=b, a=a)))


def test_a_null_in_a_schema_changes_it() -> None:
    assert fingerprint(job(**schema(a={"const": None}))) != fingerprint(job(**schema(a={})))


def test_the_length_of_simulated_answers_changes_a_rehearsal() -> None:
    short, long = (
        job(engine={"kind": "simulated", "simulated": {"output_tokens": n}}) for n in (4, 9)
    )

    assert fingerprint(short) != fingerprint(long)


def test_the_speed_of_the_simulated_engine_does_not() -> None:
    slow, fast = (
        job(engine={"kind": "simulated", "simulated": {"step_seconds": s}}) for s in (0.0, 1.0)
    )

    assert fingerprint(slow) == fingerprint(fast)


@pytest.mark.parametrize("rehearsed", [None, {"kill_on": "x"}, {"load_out_of_memory_above": 8}])
def test_how_patient_a_run_is_and_what_it_rehearses_does_not(rehearsed: Any) -> None:
    faults = {"row_timeout_seconds": 9, "step_timeout_seconds": 9, "restarts": 0}
    one = job(engine={"kind": "simulated"})
    simulated = {"faults": rehearsed} if rehearsed else {}
    other = job(engine={"kind": "simulated", "simulated": simulated}, faults=faults)

    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(
    "gold", [None, "y", {"column": "y"}, {"path": "g.csv", "key": "id", "value": "y"}]
)
def test_where_the_right_answers_are_does_not(gold: Any) -> None:
    one = job(label={"choices": ["a", "b"]}, trust={"accept": None})

    assert fingerprint(job(label={"choices": ["a", "b"], "gold": gold})) == fingerprint(one)


def test_of_answers_that_are_no_choice_it_does() -> None:
    """Whether they are right is counted once and for all."""
    assert fingerprint(job(label={"regex": "a"})) != fingerprint(
        job(label={"regex": "a", "gold": "y"})
    )


def test_a_default_that_is_spelled_out_leaves_it_as_it_is() -> None:
    assert fingerprint(job(sampling={"temperature": 0, "max_tokens": 256})) == fingerprint(job())


def test_a_changed_part_can_be_named() -> None:
    one, two = (
        fingerprint_parts(j, model_hash="m", input_hash="i") for j in (job(), job(prompt="{text}!"))
    )

    assert [k for k in one if one[k] != two[k]] == ["prompt"]
