"""resources.engines: unlike engines that work on one job."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import Job, UsageError
from pipeline.job.fingerprint import fingerprint_parts
from tests.support.samples import job

OLLAMA = {"kind": "ollama", "url": "http://box:11434"}
OTHER = {"kind": "openai", "url": ["http://a:8000", "http://b:8000"]}


def mixed(*engines: Any, **changes: Any) -> Job:
    return job(resources={"engines": list(engines), "mixed": True}, **changes)


def test_they_are_those_that_are_named() -> None:
    found = mixed("vllm", OLLAMA).engines

    assert [(one.kind, one.urls) for one in found] == [("vllm", ()), ("ollama", (OLLAMA["url"],))]


def test_one_that_is_named_by_its_kind_has_the_settings_of_engine() -> None:
    asked = mixed(OLLAMA, "vllm", engine={"kind": "vllm", "max_num_seqs": 7})

    assert [one.max_num_seqs for one in asked.engines] == [None, 7]


def test_without_engine_the_first_is_the_jobs() -> None:
    assert mixed(OLLAMA, "vllm").engine.kind == "ollama"


def test_a_job_without_them_has_its_own_alone() -> None:
    asked = job()

    assert asked.engines == (asked.engine,)


def test_several_want_it_said_that_answers_differ() -> None:
    with pytest.raises(UsageError, match="mixed: true"):
        job(resources={"engines": ["vllm", OLLAMA]})


def test_their_number_is_that_of_cards_and_servers() -> None:
    with pytest.raises(UsageError, match="workers does not go with engines"):
        job(resources={"engines": ["vllm", OLLAMA], "mixed": True, "workers": 2})


def test_engine_has_to_be_one_of_them() -> None:
    with pytest.raises(UsageError, match=r"its kind, simulated, is not among resources\.engines"):
        mixed("vllm", OLLAMA, engine={"kind": "simulated"})


def test_a_server_without_an_address_is_refused_where_it_stands() -> None:
    with pytest.raises(UsageError, match=r"resources\.engines.*where is the server"):
        mixed("vllm", "ollama")


def test_each_server_of_several_is_an_engine_of_its_own() -> None:
    [_, other] = mixed("vllm", OTHER).engines

    assert [one.url for one in other.each] == OTHER["url"]


def _engine_part(asked: Job) -> Any:
    return fingerprint_parts(asked, model_hash="", input_hash="")["engine.kind"]


def test_a_mixed_job_goes_on_with_other_engines() -> None:
    """Every row says whose it is."""
    assert _engine_part(mixed("vllm", OLLAMA)) == _engine_part(mixed("vllm", OTHER))


def test_a_mixed_job_is_none_of_one_engine() -> None:
    assert _engine_part(mixed("vllm", OLLAMA)) != _engine_part(job())


def test_a_mixed_rehearsal_is_none_of_real_engines() -> None:
    assert _engine_part(mixed("simulated", OLLAMA)) != _engine_part(mixed("vllm", OLLAMA))
