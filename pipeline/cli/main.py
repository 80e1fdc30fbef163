"""The `rackmill` command: data on stdout, everything else on stderr, exit codes for scripts."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NoReturn

import typer

from pipeline.cli.app import app
from pipeline.cli.terminal.console import ERR, OUT, prepare_streams, print_json
from pipeline.errors import RackmillError, Stopped, UsageError
from pipeline.job.file.load import line_of
from pipeline.job.job import Job
from pipeline.printable import without_secrets

_STOPPED = 130  # the exit code that shells show for a command ended by Ctrl-C
_LONGEST_LINE = 2000  # characters of a message: names from outside may be very long


def main() -> None:
    """The entry point: no traceback reaches a user."""
    prepare_streams()
    try:
        code = app(standalone_mode=False)
        if code == _STOPPED:  # how typer reports Ctrl-C
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except RackmillError as error:
        _explain(error)
        _leave(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        ERR.print("stopped")
        _leave(_STOPPED)
    except Exception as e:
        if type(e).__name__ == "NoArgsIsHelpError":  # a group was given without a command
            OUT.print(str(e))
            sys.exit(0)
        if hasattr(e, "format_message"):  # click's own errors about arguments
            _explain(UsageError(e.format_message()))
            sys.exit(2)
        _crash(e)


def program() -> NoReturn:
    """``main`` as a separate process, up to its very end.

    C++ libraries have threads that may still run when the process destroys their variables: about
    one run in a hundred aborted then, after everything was done and printed. So only Python's own
    steps at exit are done, and nothing else.
    """
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # same effect as Ctrl-C
    try:
        main()
        code = 0
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else int(e.code is not None)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # no reader, a full disk, or it is closed
            code = code or 1
    os._exit(code)


def _leave(code: int) -> NoReturn:
    """End now, even while a Ray that is no longer needed starts in the background."""
    background = sys.modules.get("pipeline.cluster.background")
    if background is not None and background.is_starting():
        sys.stdout.flush()
        sys.stderr.flush()
        background.end_what_starts()
        os._exit(code)
    sys.exit(code)


def _explain(error: RackmillError) -> None:
    where = _where(error)
    if "--json" in sys.argv:
        told = {"error": f"{where}{error.message}", "hints": list(error.hints)}
        print_json(told | {"exit_code": error.exit_code})
    said = "" if isinstance(error, Stopped) else f"error: {where}"
    # a file's name may contain a line break: the rest must not look like our output
    texts = (f"{said}{error.message}", *(f"  {hint}" for hint in error.hints))
    for line in (text.replace("\n", "\n  ") for text in texts):
        short = line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"
        ERR.print(short)


def _where(error: RackmillError) -> str:
    """The job file's line, or the option, for an error that begins with one of its keys."""
    if not isinstance(error, UsageError):
        return ""
    dotted = error.message.split(" ")[0].rstrip(":")
    key = dotted.split(".")[0]
    for option, value in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        if option == "--set" and value.partition("=")[0].split(".")[0] == key:
            return f"--set {value}: "
        if option == "--output" and dotted == "output.path":
            return "--output: "
    path = next((Path(a) for a in sys.argv[1:] if a.endswith((".yaml", ".yml"))), None)
    if path is None or key not in Job.model_fields:
        return ""
    return f"{line_of(path, dotted)}: "


def _crash(e: Exception) -> None:
    """A bug in rackmill: one line for the user, the traceback in a file."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="rackmill-crash-", suffix=".txt", delete=False
    ) as file:
        file.write(without_secrets("".join(traceback.format_exception(e))))
    if "--json" in sys.argv:
        print_json({"error": f"{type(e).__name__}: {e}", "hints": [], "exit_code": 1})
    ERR.print(f"error: rackmill failed unexpectedly: {type(e).__name__}: {e}")
    ERR.print(f"  this is a defect; please report it with {file.name}")
    sys.exit(1)


if __name__ == "__main__":
    program()
