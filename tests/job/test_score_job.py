"""The `score` section of a job file: what goes with it, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import UsageError, job_from
from pipeline.job.fingerprint import fingerprint_parts
from tests.support.samples import BASE_JOB, job


def parts(**changes: Any) -> dict[str, Any]:
    return fingerprint_parts(job(**changes), model_hash="m", input_hash="i")


def test_an_empty_section_scores_the_prompt() -> None:
    made = job(score={})

    assert made.score is not None
    assert made.score.completion is None
    assert not made.score.lists


@pytest.mark.parametrize("options", [{"per_token": True}, {"top_k": 4}])
def test_lists_per_token_are_there_when_asked_for(options: dict[str, Any]) -> None:
    score = job(score=options).score

    assert score is not None
    assert score.lists


CHAT = {"prompt": None, "messages": [{"role": "user", "content": "{text}"}]}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"label": {"choices": ["a", "b"]}}, "either label or score"),
        ({"sampling": {"max_tokens": 5}}, "nothing is sampled"),
        ({"instructions": "Be brief."}, "scores all of the prompt"),
        ({"examples": [{"text": "a", "answer": "b"}]}, "scores all of the prompt"),
        (CHAT, "messages needs {completion: COLUMN}"),
        ({"score": {"top_k": 0}}, "score.top_k"),
        ({"score": {"topk": 1}}, "did you mean 'top_k'"),
    ],
)
def test_what_does_not_go_with_it_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        job(**({"score": {}} | changes))


def test_a_completion_may_follow_instructions_examples_and_messages() -> None:
    scored = {"score": {"completion": "answer"}}

    assert job(**scored, instructions="Be brief.", examples=[{"text": "a", "answer": "b"}]).score
    assert job(**scored, **CHAT).score


def test_score_and_its_options_are_part_of_what_the_job_is() -> None:
    made = [parts(), parts(score={}), parts(score={"top_k": 2}), parts(score={"completion": "a"})]

    assert all(one != other for i, one in enumerate(made) for other in made[:i])


def test_settings_lie_over_a_mapping_as_over_a_file() -> None:
    content = {**BASE_JOB, "score": {}}

    made = job_from(content, ["score.top_k=3", "engine.kind=simulated"])

    assert made.score is not None
    assert (made.score.top_k, made.engine.kind) == (3, "simulated")
    assert content["score"] == {}
