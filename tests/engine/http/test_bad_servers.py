"""Servers that misbehave: each is a clear error at the start, or an error row; nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipeline.errors import EndpointGone, EndpointSlow, EndpointUnfit, EngineFailed, RowErrorType
from tests.engine.http.fake_server import PROPS, FakeServer, Handler, llama_answer
from tests.engine.http.side import assert_error_row, ended, engine_at, request_of


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.engine.http.client._PAUSE_SECONDS", (0.01, 0.01))


def _says(status: int = 200, **given: Any) -> Callable[..., Awaitable[web.StreamResponse]]:
    async def answer(*_: Any) -> web.StreamResponse:
        return web.Response(status=status, **given)

    return answer


async def _hangs(*_: Any) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError


async def _closes(request: web.Request, _: Any) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def _closes_in_the_middle(request: web.Request, _: Any) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Length": "1000"})
    await answer.prepare(request)
    await answer.write(b'{"content": "y')
    assert request.transport is not None
    request.transport.close()
    return answer


async def _slow_headers(*_: Any) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.json_response({})


_HTML = {"text": "<html>a router's page</html>", "content_type": "text/html"}

AT_THE_START = {
    "html": (_says(**_HTML), EndpointUnfit, "the answer is HTML"),
    "no json": (_says(text="hello"), EndpointUnfit, "the answer is no JSON"),
    "other json": (_says(text="{}"), EndpointUnfit, "no total_slots"),
    "a list": (_says(text="[]"), EndpointUnfit, "no object"),
    "empty": (_says(text=""), EndpointUnfit, "no JSON: nothing"),
    "401": (_says(401, text="{}"), EndpointUnfit, "engine.api_key"),
    "403": (_says(403, text="{}"), EndpointUnfit, "refused \\(403\\)"),
    "404": (_says(404, text="no"), EndpointUnfit, "HTTP 404: no"),
    "500": (_says(500, text="broken"), EndpointUnfit, "HTTP 500: broken"),
    "503 for ever": (
        _says(503, text="{}"),
        EndpointSlow,
        "busy for 1 s more, longer than",
    ),
    "elsewhere": (_says(302, headers={"Location": "/x"}), EndpointUnfit, "elsewhere: /x"),
    "hangs": (_hangs, EndpointSlow, r"no answer in 0\.9 s"),
    "slow headers": (_slow_headers, EndpointSlow, r"no answer in 0\.9 s"),
    "closes": (_closes, EndpointGone, "connection was closed"),
    "closes in the middle": (_closes_in_the_middle, EndpointGone, "connection was closed"),
}


@pytest.mark.parametrize("bad", AT_THE_START)
def test_a_bad_server_is_a_clear_error_before_the_first_row(bad: str, tmp_path: Path) -> None:
    handle, error, said = AT_THE_START[bad]
    with FakeServer(handle) as server, pytest.raises(error, match=said):
        engine_at(server.url, tmp_path, patience=1.0 if "9 s" in said or "busy" in said else 60.0)


def test_a_server_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EndpointGone, match="connection refused"):
        engine_at("http://127.0.0.1:9", tmp_path, patience=1.0)


def test_a_server_with_a_certificate_that_is_not_trusted_is_a_clear_error(tmp_path: Path) -> None:
    with FakeServer(_says(text="{}")) as server, pytest.raises(EngineFailed, match="TLS"):
        engine_at(server.url.replace("http:", "https:"), tmp_path, patience=1.0)


def _after(handle: Handler) -> Handler:
    """A server that is good until it gets rows."""

    async def answer(request: web.Request, body: Any) -> web.StreamResponse:
        if request.path == "/props":
            return web.json_response(PROPS)
        return await handle(request, body)

    return answer


def _answers(**changes: Any) -> Handler:
    async def answer(_: web.Request, body: Any) -> web.StreamResponse:
        return web.json_response(llama_answer(body, **changes))

    return answer


FOR_A_ROW = {
    "html": (_says(**_HTML), RowErrorType.ENGINE_FAILURE, "HTML"),
    "wrong json": (_says(text='{"a": 1}'), RowErrorType.ENGINE_FAILURE, "no content"),
    "a list": (_says(text="[1]"), RowErrorType.ENGINE_FAILURE, "no object"),
    "400": (_says(400, text='{"error": {"message": "bad"}}'), RowErrorType.ENGINE_FAILURE, "bad"),
    "500": (_says(500, text="x"), RowErrorType.ENGINE_FAILURE, "HTTP 500"),
    "too long": (
        _says(400, text='{"error": {"message": "exceeds the available context size"}}'),
        RowErrorType.PROMPT_TOO_LONG,
        "context size",
    ),
    "counts more": (_answers(tokens_evaluated=900), RowErrorType.ENGINE_FAILURE, "other tokens"),
    "counts words": (_answers(tokens_evaluated="4"), RowErrorType.ENGINE_FAILURE, "counted '4'"),
    "cuts": (_answers(truncated=True), RowErrorType.PROMPT_TOO_LONG, "cut"),
    "no end": (_answers(stop_type="none"), RowErrorType.ENGINE_FAILURE, "not llama.cpp's"),
}


@pytest.mark.parametrize("bad", FOR_A_ROW)
def test_a_bad_answer_is_an_error_row(bad: str, tmp_path: Path) -> None:
    handle, kind, said = FOR_A_ROW[bad]
    with FakeServer(_after(handle)) as server:
        assert_error_row(server.url, tmp_path, kind, said)


@pytest.mark.parametrize("handle", [_hangs, _closes, _closes_in_the_middle])
def test_a_server_that_stops_answering_is_an_engines_death(handle: Handler, tmp_path: Path) -> None:
    with FakeServer(_after(handle)) as server:
        engine = engine_at(server.url, tmp_path, patience=1.0)
        engine.add(request_of())
        with pytest.raises(EndpointGone):
            ended(engine)
        engine.close()
