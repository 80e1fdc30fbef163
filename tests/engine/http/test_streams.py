"""Answers that come while the server writes them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.http.pieces import objects_in
from pipeline.errors import EndpointGone, RowErrorType
from pipeline.rows.request import Request
from tests.engine.http.fake_server import PROPS, FakeServer, Handler, llama, llama_pieces, streamed
from tests.engine.http.side import assert_error_row, ended, engine_at, request_of
from tests.engine.http.test_ollama import Ollama
from tests.engine.http.test_openai_server import Completions, vllm


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.engine.http.client._PAUSE_SECONDS", (0.01, 0.01))


def _llama(pieces: Any, **how: Any) -> Handler:
    """llama-server with such ``pieces`` for every row."""

    async def answer(request: web.Request, body: Any) -> web.StreamResponse:
        if request.path == "/props":
            return web.json_response(PROPS)
        return await streamed(request, pieces(body), **how)

    return answer


def test_tokens_are_told_of_before_their_row_ends(tmp_path: Path) -> None:
    with FakeServer(_llama(lambda body: llama_pieces(body, "abcdef"), pause=0.3)) as server:
        engine = engine_at(server.url, tmp_path)
        engine.add(request_of())
        told: list[int] = []
        while not (done := engine.step()):
            told += engine.stats.sampled
        last = list(engine.stats.sampled)
        engine.close()

    assert done[0].text == "abcdef"
    assert 3 <= len(told) <= 6
    assert set(told) == {1}
    # the server's own count is 3: what was told of beyond it stays told
    assert len(told) + len(last) == max(3, len(told))


def test_all_tokens_of_an_answer_are_told_of_though_it_came_at_once(tmp_path: Path) -> None:
    with FakeServer(Completions(tmp_path, owner="me", streams=False)) as server:
        engine = engine_at(server.url, tmp_path, "openai", engine={"max_num_seqs": 2})
        engine.add(request_of())
        [found] = ended(engine)
        sampled, can = list(engine.stats.sampled), engine.capabilities
        engine.close()

    assert not can.streams
    assert (found.text, sampled) == ("yes", [1, 1])
    assert "stream" not in server.asked[-1][1]


def test_an_openai_server_streams_with_its_counts(tmp_path: Path) -> None:
    with FakeServer(vllm(tmp_path)) as server:
        engine = engine_at(server.url, tmp_path, "openai", engine={"max_num_seqs": 2})
        engine.add(request_of())
        [found] = ended(engine)
        engine.close()

    assert (found.text, found.completion_tokens, found.finish_reason) == ("yes", 2, "stop")
    sent = server.asked[-1][1]
    assert (sent["stream"], sent["stream_options"]) == (True, {"include_usage": True})


def test_ollama_streams_lines(tmp_path: Path) -> None:
    given = {"max_num_seqs": 2, "max_model_len": 1024}
    with FakeServer(Ollama(tmp_path)) as server:
        engine = engine_at(server.url, tmp_path, "ollama", engine=given)
        engine.add(request_of())
        [found] = ended(engine)
        engine.close()

    assert (found.text, found.completion_tokens, found.finish_reason) == ("yes", 2, "stop")
    assert server.asked[-1][1]["stream"] is True


def test_a_server_that_writes_faster_than_pieces_are_worth_answers_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.engine.http.engine._MOST_IN_PIECES", 0.0)
    with FakeServer(llama) as server:
        engine = engine_at(server.url, tmp_path)
        engine.add(request_of())
        [found] = ended(engine)
        sampled = list(engine.stats.sampled)
        engine.close()

    assert (found.text, sampled) == ("yes", [1, 1, 1])
    assert "stream" not in server.asked[-1][1]


def test_labels_that_are_walked_are_not_streamed(tmp_path: Path) -> None:
    async def walked(request: web.Request, body: Any) -> web.StreamResponse:
        assert not (body or {}).get("stream")
        top = [{"id": 3, "token": "3", "logprob": -1.0}]
        answer = {"tokens_evaluated": 4, "completion_probabilities": [{"top_logprobs": top}]}
        return web.json_response(PROPS if body is None else answer)

    with FakeServer(walked) as server:
        engine = engine_at(server.url, tmp_path)
        one = request_of()
        engine.add(Request(1, one.prompt_ids, one.sampling, logprob_ids=(3,)))
        [found] = ended(engine)
        engine.close()

    assert found.logprobs == {3: -1.0}


@pytest.mark.parametrize("closes", [True, False])
def test_a_stream_that_breaks_off_is_asked_for_again(closes: bool, tmp_path: Path) -> None:
    times = iter(range(100))

    async def once(request: web.Request, body: Any) -> web.StreamResponse:
        if request.path == "/props":
            return web.json_response(PROPS)
        pieces = llama_pieces(body)
        if next(times) == 0:
            return await streamed(request, pieces[:2], closes=closes)
        return await streamed(request, pieces)

    with FakeServer(once) as server:
        engine = engine_at(server.url, tmp_path)
        engine.add(request_of())
        [found] = ended(engine)
        engine.close()

    assert (found.text, found.completion_tokens, found.error) == ("yes", 3, None)


@pytest.mark.parametrize("closes", [True, False])
def test_streams_that_always_break_off_are_the_servers_end_and_no_rows_fault(
    closes: bool, tmp_path: Path
) -> None:
    with FakeServer(_llama(lambda body: llama_pieces(body)[:2], closes=closes)) as server:
        engine = engine_at(server.url, tmp_path)
        engine.add(request_of())
        with pytest.raises(EndpointGone, match="closed" if closes else "stream ended before"):
            ended(engine)
        engine.close()


_WRONG = {
    "an error": (
        lambda body: [*llama_pieces(body)[:1], {"error": {"code": 400, "message": "slot lost"}}],
        RowErrorType.ENGINE_FAILURE,
        "slot lost",
    ),
    "a prompt cut": (
        lambda body: llama_pieces(body, tokens_evaluated=1),
        RowErrorType.PROMPT_TOO_LONG,
        "it cut it",
    ),
    "another prompt": (
        lambda body: llama_pieces(body, tokens_evaluated=99),
        RowErrorType.ENGINE_FAILURE,
        "other tokens",
    ),
}


@pytest.mark.parametrize("wrong", _WRONG)
def test_what_a_stream_says_in_its_end_is_compared(wrong: str, tmp_path: Path) -> None:
    pieces, kind, said = _WRONG[wrong]
    with FakeServer(_llama(pieces)) as server:
        assert_error_row(server.url, tmp_path, kind, said)


def test_more_tokens_than_were_asked_for_are_not_believed(tmp_path: Path) -> None:
    with FakeServer(_llama(lambda body: llama_pieces(body, tokens_predicted=900))) as server:
        engine = engine_at(server.url, tmp_path)
        engine.add(request_of(max_tokens=8))
        [found] = ended(engine)
        engine.close()

    assert 1 <= found.completion_tokens <= 9


def test_a_row_that_is_dropped_in_the_middle_closes_its_stream(tmp_path: Path) -> None:
    many = _llama(lambda body: llama_pieces(body, "x" * 1000), pause=0.05)
    with FakeServer(many) as server:
        engine = engine_at(server.url, tmp_path)
        engine.add(request_of())
        while not engine.stats.sampled:
            engine.step()
        engine.abort([1])
        engine.add(request_of(2))
        engine.step()
        assert set(engine.stats.sampled) == {2}
        engine.close()


@given(st.data())
@settings(deadline=None)
def test_pieces_are_the_same_wherever_the_stream_is_cut(data: st.DataObject) -> None:
    wanted = [{"content": "aé\n"}, {"content": ""}, {"stop": True, "n": [1, {"a": None}]}]
    lines = ["event: x", ": nothing", "", *(f"data: {json.dumps(one)}" for one in wanted)]
    whole = "\r\n".join([*lines, "data: [DONE]", '{"cut": ']).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    edges = [0, *cuts, len(whole)]

    async def parts() -> AsyncIterator[bytes]:
        for begin, end in pairwise(edges):
            yield whole[begin:end]

    async def found() -> list[dict[str, Any]]:
        return [one async for one in objects_in(parts())]

    assert asyncio.run(found()) == wanted
