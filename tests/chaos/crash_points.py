"""A fault at every storage call: ``python -m tests.chaos.crash_points FOLDER OUTPUT MODE...``.

For every N, a run in a child process meets its fault at the N-th storage operation; then another
one, without, must bring the job to its end. The children are forked from here, with everything
imported and no thread started. MODE:N is for every N-th operation only. MODE is one of

    exit       the process ends before operation N
    call       the process ends before the N-th call of the file system (local disks)
    lose       operation N takes effect, and its answer is lost
    gone       so it is, and storage does not answer from then on
    full       there is no room from operation N on
    read-only  nothing can be written from operation N on

Prints how many points were tried, and what went wrong; exit code 1 if anything did.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow.dataset  # noqa: F401 - else every child would, with its first table

from pipeline.engine.machine.facts import own_versions
from pipeline.errors import RackmillError
from pipeline.report.page import page
from tests.chaos.in_process import check, job, run_here
from tests.support.storage_faults import EXIT_CODE, VARIABLE

_FAULTS = {
    "exit": "exit_at={n}",
    "call": "seed=1",
    "lose": "lose_at={n}",
    "gone": "gone_from={n},patience=0",
    "full": "full_from={n}",
    "read-only": "read_only_from={n}",
}
_FAILED, _NO_MEND = 1, 71  # with an error that says what to do, or does not
_ENDS = {
    "exit": {EXIT_CODE},
    "call": {EXIT_CODE},
    "lose": {0},
    **{mode: {0, _FAILED} for mode in ("gone", "full", "read-only")},
}
_CALLS = {"open", "os.link", "os.rename", "os.remove", "os.mkdir"}
_MOST_POINTS = 10_000


def try_point(folder: Path, output: str, mode: str, number: int) -> tuple[bool, str]:
    """Whether there was an operation of that number, and what went wrong."""
    counter = folder / f"count-{os.getpid()}"
    counter.unlink(missing_ok=True)
    faults = f"{_FAULTS[mode].format(n=number)},counter={counter}"

    def interrupted() -> int:
        os.environ[VARIABLE] = faults
        if mode == "call":
            _exit_at_call(number, output)
        try:
            run_here(job(folder, output))
        except RackmillError as e:
            return _FAILED if e.hints else _NO_MEND
        return 0

    code, told = _in_child(interrupted)
    reached = code == EXIT_CODE if mode == "call" else counter.stat().st_size >= number
    if reached and code not in _ENDS[mode]:
        return True, f"{mode} at {number}: ended with {code}: {told}"
    code, told = _in_child(lambda: _finish(folder, output))
    return reached, f"after {mode} at {number}: {told}" if code else ""


def _finish(folder: Path, output: str) -> int:
    run_here(job(folder, output))
    check(output)
    return 0


def _exit_at_call(number: int, output: str) -> None:
    left = number

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in _CALLS and output in str(arguments[0]):
            left -= 1
            if left == 0:
                os._exit(EXIT_CODE)

    sys.addaudithook(hook)


def _in_child(call: Callable[[], int]) -> tuple[int, str]:
    """The exit code of a child that does ``call``, and its traceback."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = call()
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with what tests.chaos.in_process prepares")
    parser.add_argument("output", help="a new folder is made below for every point")
    parser.add_argument("modes", nargs="+", metavar="MODE")
    parser.add_argument("--first", type=int, default=1)
    chosen = parser.parse_args()
    if chosen.output.startswith("s3://"):
        import s3fs  # noqa: F401 - as above
    page.template(), own_versions()  # what a process does once
    troubles = 0
    for one in chosen.modes:
        mode, _, every = one.partition(":")
        points = range(chosen.first, _MOST_POINTS, int(every or 1))
        troubles += _try_points(chosen.folder, chosen.output, mode, points)
    sys.exit(1 if troubles else 0)


def _try_points(folder: Path, output: str, mode: str, points: Iterable[int]) -> int:
    """How many of them ended in trouble."""
    troubles = tried = 0
    for number in points:
        place = f"{output}/{mode}-{number}"
        reached, trouble = try_point(folder, place, mode, number)
        if trouble:
            troubles += 1
            print(trouble, flush=True)
        elif "://" not in place:
            shutil.rmtree(place)
        if not reached:
            break
        tried += 1
    print(f"{mode}: {tried} points tried, {troubles} with trouble")
    return troubles


if __name__ == "__main__":
    main()
