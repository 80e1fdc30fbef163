"""How many requests a server works on at once is measured where it does not say."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.engine.http.concurrency import measured_concurrency


@pytest.mark.parametrize("slots", [1, 4])
def test_it_is_the_number_from_which_on_requests_wait(slots: int) -> None:
    async def measured() -> int:
        free = asyncio.Semaphore(slots)

        async def ask(_: int) -> None:
            async with free:
                await asyncio.sleep(0.05)

        return await measured_concurrency(ask)

    assert asyncio.run(measured()) == slots
