"""`rackmill logs`: what a run logged next to its output, or what a submitted job printed."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli.options import RackAddress
from pipeline.cli.rack.jobs.command import is_output, print_log
from pipeline.cli.terminal.console import ERR, OUT
from pipeline.errors import UsageError, some_of

if TYPE_CHECKING:
    from pipeline.storage.base import Storage

Level = Literal["debug", "info", "warning", "error"]
_POLL_SECONDS = 1.0


def logs_command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="OUTPUT|JOB", help="The output folder of a run; or a submitted job, by its id."
        ),
    ],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run or the job has ended.")
    ] = False,
    worker: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only lines of, or about, this one: worker-0, driver, …"),
    ] = None,
    level: Annotated[
        Level | None, typer.Option(help="The least that is shown; info if nothing is said.")
    ] = None,
    every_run: Annotated[
        bool, typer.Option("--all", help="Of earlier runs, too, as far as their logs are kept.")
    ] = False,
    address: RackAddress = None,
) -> None:
    """What the last run on an output logged: all its processes, by time (UTC); or what a submitted
    job has printed."""
    if is_output(what):
        from pipeline.storage.base import open_storage

        least = logging.getLevelNamesMapping()[(level or "info").upper()]
        _show(open_storage(what), what, worker, least, follow=follow, every_run=every_run)
        return
    for option, given in (("--worker", worker), ("--level", level), ("--all", every_run)):
        if given:
            raise UsageError(f"{option} is for the log of an output; {what} is a submitted job")
    print_log(what, address, follow=follow)


def _show(
    storage: Storage, output: str, worker: str | None, least: int, *, follow: bool, every_run: bool
) -> None:
    from pipeline.output.runs.run_log import LogReader, logged_runs
    from pipeline.output.runs.run_registry import live_runs

    runs = logged_runs(storage)
    if not runs:
        raise UsageError(
            f"{output} holds no log of a run", "rackmill status tells what is there of it"
        )
    reader = LogReader(storage, runs if every_run else runs[-1:])
    workers: set[str] = set()
    shown = False
    while True:
        lives = follow and bool(live_runs(storage))  # checked first: its last lines are read
        for line in reader.new_lines():
            workers.add(line.worker)
            if worker in (None, line.worker) and line.level_number >= least:
                OUT.print(str(line))
                shown = True
        if not lives:
            break
        sys.stdout.flush()
        time.sleep(_POLL_SECONDS)
    if worker is not None and worker not in workers:
        raise UsageError(f"no line is of {worker}", f"there are: {some_of(sorted(workers))}")
    if not shown:
        ERR.print("nothing of this level was logged: --level debug shows all")
