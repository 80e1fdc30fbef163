"""Servers that take chats alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipeline.engine.http.chat import turns_of
from pipeline.errors import RackmillError
from tests.chaos.in_process import run_here
from tests.engine.http.fake_server import FakeServer
from tests.support.datasets import job_in, write_input


def test_a_chat_is_taken_apart_into_its_turns() -> None:
    text = (
        "<start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\nHi<end_of_turn>\n"
        "<start_of_turn>user\nHow\nare you?<end_of_turn>\n<start_of_turn>model\n"
    )

    assert turns_of(text) == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "How\nare you?"},
    ]


def test_what_is_no_chat_is_none() -> None:
    assert turns_of("Tweet: great\nSentiment:") is None
    assert turns_of("x<start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n") is None
    assert turns_of("<start_of_turn>model\n") is None


def test_one_that_writes_on_beyond_its_limit_is_refused(tmp_path: Path) -> None:
    """As `litert-lm serve` 0.18.1 does."""

    async def endless(request: web.Request, body: Any) -> web.StreamResponse:
        if request.path == "/v1/models":
            return web.json_response({"data": [{"id": "gemma"}]})
        message = {"role": "assistant", "content": "1 2 3 4 5 6 7 8 9 " * 20}
        return web.json_response({"choices": [{"message": message, "finish_reason": "stop"}]})

    write_input(tmp_path / "rows", 4)
    with FakeServer(endless) as server, pytest.raises(RackmillError, match="ignores max_tokens"):
        run_here(job_in(tmp_path, engine={"kind": "litert", "url": server.url}))
