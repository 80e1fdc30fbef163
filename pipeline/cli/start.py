"""Where the `rackmill` command begins: Ctrl-C works from the first moment."""

from __future__ import annotations

import os
import signal
from typing import NoReturn

_STOPPED = 130


def start() -> NoReturn:
    """The console script. Importing the commands takes a few tenths of a second. Until then Ctrl-C
    ends the process like any program, without a traceback; nothing has begun yet."""
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:  # a shell makes background processes ignore it: leave it so
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from pipeline.cli.main import program

    try:
        if heeded:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        program()
    except KeyboardInterrupt:  # between two of its steps
        os._exit(_STOPPED)
