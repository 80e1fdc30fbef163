"""A server behind the engine protocol."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipeline.errors import EndpointGone, EndpointUnfit, RowError, RowErrorType
from pipeline.rows.request import Request, Structure
from tests.chaos.in_process import run_here
from tests.engine.http.fake_server import PROPS, FakeServer, llama, llama_answer
from tests.engine.http.side import ended, engine_at, request_of
from tests.support.datasets import job_in, write_input


def test_what_a_server_says_of_itself_is_what_the_scheduler_counts_on(tmp_path: Path) -> None:
    said: list[str] = []
    with FakeServer(llama) as server:
        engine = engine_at(server.url, tmp_path, said=said)
        facts = engine.facts
        engine.close()

    # as many wait there as are worked on
    assert (facts.kind, facts.max_num_seqs, facts.max_model_len) == ("llama.cpp", 8, 512)
    assert said == [
        f"{server.url}: llama.cpp b1: gemma.gguf · 4 requests at once · context 512 · "
        "log-probabilities of 256 · JSON and regex held · token ids · seeds · tokens as they come"
    ]


def test_a_server_gets_no_more_at_once_than_the_job_says(tmp_path: Path) -> None:
    with FakeServer(llama) as server:
        engine = engine_at(server.url, tmp_path, engine={"max_num_seqs": 3})
        facts = engine.facts
        engine.close()

    assert facts.max_num_seqs == 3


def test_a_place_that_is_free_has_its_next_request_waiting_there(tmp_path: Path) -> None:
    """Requests of a batch end together: as many are there when it does."""
    left: list[int] = []
    inside = 0

    async def slots_of_four(request: web.Request, body: Any) -> web.StreamResponse:
        nonlocal inside
        if request.path != "/props":
            inside += 1
            while inside < 8 and len(left) < 64:
                await asyncio.sleep(0.01)
            inside -= 1
            left.append(inside)
        return await llama(request, body)

    write_input(tmp_path / "rows", 80)
    with FakeServer(slots_of_four) as server:
        engine = {"kind": "llama.cpp", "url": server.url}
        run_here(job_in(tmp_path, engine=engine))

    assert len(left) == 80


def test_requests_end_with_the_text_and_the_tokens_that_the_server_told(tmp_path: Path) -> None:
    with FakeServer(llama) as server:
        engine = engine_at(server.url, tmp_path)
        for number in range(9):
            engine.add(request_of(number))
        found = ended(engine, 9)
        engine.close()

    assert sorted(one.request_id for one in found) == list(range(9))
    assert {(one.text, one.completion_tokens, one.finish_reason) for one in found} == {
        ("yes", 3, "stop")
    }


def test_every_sampler_is_said_so_that_the_servers_own_defaults_change_nothing(
    tmp_path: Path,
) -> None:
    with FakeServer(llama) as server:
        engine = engine_at(server.url, tmp_path)
        engine.add(request_of(temperature=0.5, seed=7, stop=["x"]))
        ended(engine)
        engine.close()

    sent = server.asked[-1][1]
    assert sent["prompt"] == [2, 5, 6, 7]
    assert {key: sent[key] for key in ("temperature", "top_p", "top_k", "min_p", "seed")} == {
        "temperature": 0.5,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "seed": 7,
    }
    assert (sent["repeat_penalty"], sent["stop"]) == (1.0, ["x"])


def test_a_token_that_is_not_told_of_is_as_likely_as_the_least_of_those_that_are(
    tmp_path: Path,
) -> None:
    with FakeServer(llama) as server:
        engine = engine_at(server.url, tmp_path)
        one = request_of()
        engine.add(Request(1, one.prompt_ids, one.sampling, logprob_ids=(3, 100_000)))
        [found] = ended(engine)
        engine.close()

    assert found.logprobs == pytest.approx({3: -1.03, 100_000: -3.55})


def test_what_was_aborted_is_neither_told_of_nor_waited_for(tmp_path: Path) -> None:
    async def slow(request: web.Request, body: Any) -> web.StreamResponse:
        if body and body["n_predict"] == 5:
            await asyncio.sleep(30)
        return await llama(request, body)

    with FakeServer(slow) as server:
        engine = engine_at(server.url, tmp_path)
        engine.add(request_of(1, max_tokens=5))
        engine.add(request_of(2))
        assert [one.request_id for one in ended(engine)] == [2]
        engine.abort([1])
        assert engine.step() == []
        assert (engine.stats.running, engine.stats.waiting) == (0, 0)
        engine.close()


def test_a_prompt_that_the_server_cut_is_an_error_row(tmp_path: Path) -> None:
    async def cuts(request: web.Request, body: Any) -> web.StreamResponse:
        if request.path == "/props":
            return web.json_response(PROPS)
        return web.json_response(llama_answer(body, tokens_evaluated=2))

    with FakeServer(cuts) as server:
        engine = engine_at(server.url, tmp_path)
        engine.add(request_of())
        [found] = ended(engine)
        engine.close()

    assert found.error is not None
    assert found.error.type is RowErrorType.PROMPT_TOO_LONG
    assert "read 2 of the prompt's 4 tokens" in found.error.message


def test_a_key_that_the_server_would_ignore_is_refused(tmp_path: Path) -> None:
    with FakeServer(llama) as server:
        with pytest.raises(EndpointUnfit, match=r"sampling\.presence_penalty"):
            engine_at(server.url, tmp_path, sampling={"presence_penalty": 1.0})
        engine = engine_at(server.url, tmp_path)
        with pytest.raises(RowError, match="min_tokens"):
            engine.add(request_of(min_tokens=2))
        engine.close()


def test_a_schema_goes_along_with_the_request(tmp_path: Path) -> None:
    with FakeServer(llama) as server:
        engine = engine_at(server.url, tmp_path)
        one = request_of()
        engine.add(Request(1, one.prompt_ids, one.sampling, Structure('{"type": "object"}')))
        ended(engine)
        engine.close()

    assert server.asked[-1][1]["json_schema"] == {"type": "object"}


def test_a_server_that_vanishes_is_an_engines_death_that_no_row_is_to_blame_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.engine.http.client._PAUSE_SECONDS", (0.01,))
    with FakeServer(llama) as server:
        engine = engine_at(server.url, tmp_path)
        server.stop()
        engine.add(request_of())
        with pytest.raises(EndpointGone, match="connection refused"):
            ended(engine)
        engine.close()


def test_a_busy_server_is_asked_again(tmp_path: Path) -> None:
    asked = 0

    async def busy(request: web.Request, body: Any) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if request.path != "/props" and asked < 4:
            return web.json_response({}, status=503, headers={"Retry-After": "0.1"})
        return await llama(request, body)

    with FakeServer(busy) as server:
        engine = engine_at(server.url, tmp_path)
        engine.add(request_of())
        [found] = ended(engine)
        engine.close()

    assert (found.text, found.error, asked) == ("yes", None, 4)
