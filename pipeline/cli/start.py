"""Where the `rackmill` command begins: with Ctrl-C heeded from its first moment."""

from __future__ import annotations

import os
import signal
from typing import NoReturn

_STOPPED = 130


def start() -> NoReturn:
    """The console script. Importing the commands takes a few tenths of a second, in which Ctrl-C
    ends the process as any program's, without a traceback; nothing has begun by then."""
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:  # a shell lets what it runs in the background ignore it: so be it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from pipeline.cli.main import program

    try:
        if heeded:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        program()
    except KeyboardInterrupt:  # between two of its steps
        os._exit(_STOPPED)
