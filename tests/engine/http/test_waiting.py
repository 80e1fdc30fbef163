"""Servers that are away, or busy, and come back."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipeline.engine.http.kind import when_it_is_back
from pipeline.errors import EndpointGone, EndpointUnfit
from tests.engine.http.fake_server import PROPS, FakeServer, llama
from tests.engine.http.side import ended, engine_at, request_of

_URL = "http://box:1"


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def _away_until(clock: Clock, back: float) -> str:
    if clock.now < back:
        raise EndpointGone(f"{_URL}: connection refused")
    return "here"


def test_a_server_is_asked_again_less_and_less_often_until_it_is_back() -> None:
    clock, said = Clock(), list[str]()
    found = when_it_is_back(
        lambda: _away_until(clock, 40.0), _URL, 600.0, said.append, clock.sleep, lambda: clock.now
    )

    assert found == "here"
    assert clock.slept == [1, 2, 4, 8, 15, 15]
    assert said == [
        f"waits for {_URL}: connection refused",
        f"{_URL} is back after 45 s",
    ]


def test_one_that_never_comes_back_is_given_up_when_the_patience_is_over() -> None:
    clock = Clock()
    with pytest.raises(EndpointUnfit, match="was waited for, 1 min, and is not back: connection"):
        when_it_is_back(
            lambda: _away_until(clock, 1e9),
            _URL,
            60.0,
            lambda line: None,
            clock.sleep,
            lambda: clock.now,
        )

    assert clock.now == pytest.approx(60.0)


def _date() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("wait", ["0.4", _date, None])
def test_a_busy_server_is_asked_again_when_it_says(status: int, wait: Any, tmp_path: Path) -> None:
    asked: list[float] = []

    async def busy(request: web.Request, body: Any) -> web.StreamResponse:
        if request.path == "/props":
            return web.json_response(PROPS)
        asked.append(time.monotonic())
        if len(asked) > 1:
            return await llama(request, body)
        given = wait() if callable(wait) else wait
        return web.Response(status=status, headers={"Retry-After": given} if given else {})

    with FakeServer(busy) as server:
        engine = engine_at(server.url, tmp_path)
        engine.add(request_of())
        [found] = ended(engine)
        engine.close()

    assert (found.text, found.error) == ("yes", None)
    least = 0.3 if wait == "0.4" else 0.9
    assert len(asked) == 2
    assert least <= asked[1] - asked[0] < 10
