"""A job's servers are asked before anything is started: what cannot work is said within seconds."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.driver.plan.ask_servers import ask_servers
from pipeline.driver.plan.plan import Plan, check_input, make_plan
from pipeline.errors import EndpointGone, UsageError
from tests.chaos.in_process import run_here
from tests.engine.http.fake_server import PROPS, FakeServer, Handler, llama
from tests.engine.http.test_openai_server import Completions
from tests.support.datasets import job_in, write_input

_NOWHERE = "http://127.0.0.1:9"


def _job(folder: Path, url: str | list[str], kind: str = "llama.cpp", **changes: Any) -> Any:
    engine = {"kind": kind, "url": url} | changes.pop("engine", {})
    return job_in(folder, engine=engine, **changes)


def _plan(folder: Path, url: str | list[str], kind: str = "llama.cpp", **changes: Any) -> Plan:
    write_input(folder / "rows", 40)
    return make_plan(check_input(_job(folder, url, kind, **changes)))


def _props(**changes: Any) -> Handler:
    async def answer(request: web.Request, body: Any) -> web.StreamResponse:
        if request.path == "/props":
            return web.json_response(PROPS | changes)
        return await llama(request, body)

    return answer


def _always(status: int, text: str) -> Handler:
    async def answer(*_: Any) -> web.StreamResponse:
        return web.Response(status=status, text=text)

    return answer


class Other(Completions):
    """It serves another model than the job's."""

    async def __call__(self, request: web.Request, body: Any) -> web.StreamResponse:
        if request.path == "/v1/models":
            return await super().__call__(request, body)
        usage = {"prompt_tokens": 7, "completion_tokens": 1}
        choice = {"text": "a", "finish_reason": "length"}
        return web.json_response({"choices": [choice], "usage": usage})


_SHORT = {"default_generation_settings": {"n_ctx": 4}}
UNFIT: dict[str, tuple[Any, str, dict[str, Any], str]] = {
    "html": (_always(200, "<html>"), "llama.cpp", {}, "the answer is HTML"),
    "another address": (_always(404, "no"), "llama.cpp", {}, "HTTP 404"),
    "a key is missing": (_always(401, "{}"), "llama.cpp", {}, "engine.api_key"),
    "another model": (None, "openai", {}, "another model than the job's"),
    "a context too short": (_props(**_SHORT), "llama.cpp", {}, "a context of 4 tokens"),
    "a context shorter than asked for": (
        llama,
        "llama.cpp",
        {"engine": {"max_model_len": 1024}},
        "engine.max_model_len",
    ),
    "a key of sampling": (
        llama,
        "llama.cpp",
        {"sampling": {"presence_penalty": 1.0}},
        "sampling.presence_penalty",
    ),
}


@pytest.mark.parametrize("bad", UNFIT)
def test_a_server_that_cannot_do_the_job_is_refused_before_anything_begins(
    bad: str, tmp_path: Path
) -> None:
    handle, kind, changes, said = UNFIT[bad]
    write_input(tmp_path / "rows", 40)
    began = time.monotonic()
    with FakeServer(handle or Other(tmp_path, owner="me")) as server:
        job = _job(tmp_path, server.url, kind, **changes)
        with pytest.raises(UsageError) as error:
            run_here(job)

    assert said in str(error.value)
    assert not (tmp_path / "out").exists()
    assert time.monotonic() - began < 30


def test_one_that_is_away_ends_the_run_before_it_begins(tmp_path: Path) -> None:
    write_input(tmp_path / "rows", 40)
    with pytest.raises(EndpointGone, match=f"{_NOWHERE}: connection refused"):
        run_here(_job(tmp_path, _NOWHERE))

    assert not (tmp_path / "out").exists()


def test_of_several_one_may_be_away_and_that_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    with FakeServer(llama) as server:
        ask_servers(_plan(tmp_path, [_NOWHERE, server.url]), said.append)

    assert said == [f"the run waits for {_NOWHERE}: connection refused"]


def test_what_is_away_from_here_may_be_there_for_a_rack(tmp_path: Path) -> None:
    said: list[str] = []
    ask_servers(_plan(tmp_path, _NOWHERE), said.append, from_here=False)

    assert said == [f"the run waits for {_NOWHERE}: connection refused"]


def test_one_that_still_loads_its_model_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.engine.http.kind._BRIEF_SECONDS", 1.5)
    said: list[str] = []
    with FakeServer(_always(503, '{"error": {"message": "Loading model"}}')) as server:
        ask_servers(_plan(tmp_path, server.url), said.append)

    assert "the run waits for" in said[0]
    assert "Loading model" in said[0]


def test_prompts_that_the_servers_context_does_not_hold_are_said_to_become_error_rows(
    tmp_path: Path,
) -> None:
    plan = _plan(tmp_path, _NOWHERE)
    longest = plan.sample.shape.longest
    assert plan.sample.shape.mean < longest
    said: list[str] = []
    with FakeServer(_props(default_generation_settings={"n_ctx": longest})) as server:
        ask_servers(_plan(tmp_path, server.url), said.append)

    assert "such rows will be error rows" in said[0]


def test_a_plan_says_no_rate_that_was_never_measured(tmp_path: Path) -> None:
    write_input(tmp_path / "rows", 40)
    with FakeServer(llama) as server:
        job = _job(tmp_path, server.url)
        (tmp_path / "job.json").write_text(
            json.dumps(job.model_dump(mode="json", exclude_unset=True))
        )
        shown = CliRunner().invoke(app, ["plan", str(tmp_path / "job.json")])
        told = CliRunner().invoke(app, ["plan", str(tmp_path / "job.json"), "--json"])

    assert shown.exit_code == 0, shown.output
    assert "unknown until measured, and rows/s as well" in shown.output
    assert f"no run on llama.cpp server {server.url} has been measured yet" in " ".join(
        shown.output.split()
    )
    assert json.loads(told.stdout)["predicted_seconds"] is None


def test_a_plan_for_a_server_that_is_away_says_so_with_an_exit_code(tmp_path: Path) -> None:
    write_input(tmp_path / "rows", 40)
    job = _job(tmp_path, _NOWHERE)
    (tmp_path / "job.json").write_text(json.dumps(job.model_dump(mode="json", exclude_unset=True)))
    shown = CliRunner().invoke(app, ["plan", str(tmp_path / "job.json")])

    assert shown.exit_code == 1
    assert isinstance(shown.exception, EndpointGone | SystemExit)
