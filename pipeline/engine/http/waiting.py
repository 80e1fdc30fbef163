"""A server that is away is waited for, as long as the job has patience."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from pipeline.errors import EndpointGone, EndpointUnfit
from pipeline.humanize import duration

_log = logging.getLogger(__name__)
_FIRST_SECONDS, _LONGEST_SECONDS = 1.0, 15.0
Result = TypeVar("Result")


def when_it_is_back(
    connect: Callable[[], Result],
    url: str,
    patience: float,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> Result:
    """What ``connect`` gives. While it raises EndpointGone it is called again, after a second,
    two, four, … up to a quarter of a minute, for ``patience`` seconds. What is waited for is said
    once, and once more when it is back. Raises EndpointUnfit when the patience is over."""
    began, pause, why = now(), _FIRST_SECONDS, ""
    while True:
        try:
            found = connect()
        except EndpointGone as e:
            reason = e.message.removeprefix(f"{url}: ")
            if reason != why:
                why = reason
                say(f"waits for {url}: {why}")
            left = began + patience - now()
            if left <= 0:
                raise EndpointUnfit(
                    f"{url} was waited for, {duration(patience)}, and is not back: {why}",
                    "start it again; what is committed stays, and the same command goes on from "
                    "there (faults.step_timeout_seconds: for how long it is waited for)",
                ) from None
            _log.info("asks %s again in %s", url, duration(pause))
            sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_SECONDS)
        else:
            if why:
                say(f"{url} is back after {duration(now() - began)}")
            return found
