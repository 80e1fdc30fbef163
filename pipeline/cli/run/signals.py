"""Ctrl-C and SIGTERM: the first stops a run gracefully, the next at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline.driver.stop.stop import Stop

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# wrappers (uv run, npm, timeout) also pass on signals that the terminal sent them
_ECHO_SECONDS = 0.3


@contextmanager
def stopping_on_signals(stop: Stop) -> Iterator[None]:
    """Inside this, the first signal asks ``stop``, if something heeds it at that moment; the next
    one, or one that nothing would heed, raises KeyboardInterrupt wherever the program is."""
    last = -_ECHO_SECONDS

    def take(number: int, _: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        echo, last = now - last < _ECHO_SECONDS, now
        if stop.heeded and not stop.asked:
            stop.ask(by="" if number == signal.SIGINT else signal.Signals(number).name)
        elif not echo:
            raise KeyboardInterrupt

    # a shell makes background processes ignore Ctrl-C: leave it so
    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, take) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
