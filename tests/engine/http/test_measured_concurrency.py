"""How many requests a server works on at once is measured where it does not say."""

from __future__ import annotations

import asyncio
import heapq

import pytest

from pipeline.engine.http import server_api
from pipeline.engine.http.server_api import measured_concurrency


class Server:
    """Works on so many requests at once, each of which takes a second of a clock of its own."""

    def __init__(self, slots: int) -> None:
        self.now = 0.0
        self._free = [0.0] * slots

    def monotonic(self) -> float:
        return self.now

    async def ask(self, _: int) -> None:
        ends = max(self.now, self._free[0]) + 1.0
        heapq.heapreplace(self._free, ends)
        await asyncio.sleep(0)  # those that are sent together are all there first
        self.now = max(self.now, ends)


@pytest.mark.parametrize("slots", [1, 2, 4, 16])
def test_it_is_the_number_from_which_on_requests_wait(
    slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(slots)
    monkeypatch.setattr(server_api, "time", server)

    assert asyncio.run(measured_concurrency(server.ask)) == slots
