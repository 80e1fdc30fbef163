"""How many requests a server works on at once, where it does not say: measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

_MOST = 64
_GAIN = 1.15  # by which twice as many at once must be faster for a server that works on them


async def measured_concurrency(ask: Callable[[int], Awaitable[None]], most: int = _MOST) -> int:
    """The number at once from which on more would only wait there. ``ask(n)`` sends a short
    request, every time another one.

    Twice as many are tried until they are not answered in clearly less than twice the time.
    """
    asked = iter(range(1 << 30))
    await ask(next(asked))  # whatever is loaded at the first one
    number, rate = 1, 0.0
    while True:
        began = time.monotonic()
        await asyncio.gather(*(ask(next(asked)) for _ in range(number)))
        found = number / max(1e-6, time.monotonic() - began)
        if found < _GAIN * rate:
            return number // 2
        if number >= most:
            return number
        number, rate = number * 2, found
