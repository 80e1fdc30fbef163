"""`rackmill submit`, `jobs`, `watch`, `stop`: jobs in the queue of a rack."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.options import JobFile, Json, Output, RackAddress, Rows, load_with, set_option
from pipeline.cli.rack.command import rack_address
from pipeline.cli.run.stop import stop_run
from pipeline.cli.terminal.console import ERR, print_json
from pipeline.errors import Stopped, UsageError
from pipeline.output.commit.records import STATE

if TYPE_CHECKING:
    from pipeline.service.queue.client import QueueClient

JobName = Annotated[str, typer.Argument(metavar="JOB", help="Its id, or its name: the last one.")]


def submit_command(
    job: JobFile,
    address: RackAddress = None,
    priority: Annotated[
        int, typer.Option(metavar="N", help="Higher ones take cards from lower ones.")
    ] = 0,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Instead of the job file's.")
    ] = None,
    output: Output = None,
    rows: Rows = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Engines to run at once, at most.")
    ] = None,
    settings: Annotated[list[str] | None, set_option("Change one setting.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it has ended.")] = False,
    as_json: Json = False,
) -> None:
    """Put a job into the queue of a rack; this machine is not needed any more then. With --wait the
    exit code is that of `run`."""
    from pipeline.cli.rack.jobs.show import print_submitted
    from pipeline.service.queue.client import exit_code

    loaded = load_with(job, settings, output=output, workers=workers)
    client = _client(address)
    submitted = client.submit(loaded, priority=priority, name=name, rows=rows)
    if not as_json:
        print_submitted(submitted)
    if not wait:
        if as_json:
            print_json(submitted)
        return
    with _left_alone(submitted["id"]):
        ended = _watched(client, submitted["id"], quiet=as_json)
    if as_json:
        print_json(ended)
    raise typer.Exit(exit_code(ended))


def jobs_command(address: RackAddress = None, as_json: Json = False) -> None:
    """The jobs of a rack: those that run or wait, in their order, then those that have ended."""
    from pipeline.cli.rack.jobs.show import print_jobs

    found = _client(address).jobs()
    if as_json:
        print_json({"jobs": found})
    else:
        print_jobs(found)


def watch_command(job: JobName, address: RackAddress = None, as_json: Json = False) -> None:
    """Show how far a submitted job is, until it has ended. Ctrl-C leaves it alone."""
    from pipeline.service.queue.client import exit_code

    client = _client(address)
    with _left_alone(job):
        ended = _watched(client, job, quiet=as_json)
    if as_json:
        print_json(ended)
    raise typer.Exit(exit_code(ended))


def print_log(job: str, address: str | None, *, follow: bool) -> None:
    """Print a submitted job's output; ``follow``: until it has ended."""
    with _left_alone(job):
        for text in _client(address).log(job, follow=follow):
            sys.stdout.write(text)
            sys.stdout.flush()


def stop_command(
    what: Annotated[
        str,
        typer.Argument(metavar="WHAT", help="A submitted job's id or name; a run's output folder."),
    ],
    grace: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Of a run by its output: for what is in flight, else faults.grace_seconds.",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Until it has stopped, or not.")
    ] = True,
    address: RackAddress = None,
    as_json: Json = False,
) -> None:
    """Stop a submitted job, or the run that works on an output, gracefully: what its engines are at
    is finished and committed. Exit 0: it has stopped, or none is alive (--no-wait: it was asked);
    1: it did not stop; 2: there is nothing like that."""
    from pipeline.cli.rack.jobs.show import in_one_line

    if address is None and is_output(what):
        stop_run(what, grace, wait=wait, as_json=as_json)
        return
    job = what
    if grace is not None:
        raise UsageError(
            f"--grace is for a run by its output folder, and {job} is a submitted job",
            "its job file says how long: faults.grace_seconds",
        )
    client = _client(address)
    found = client.stop(job)
    if wait:
        with _left_alone(found["id"], stopping=True):
            found = _watched(client, found["id"], quiet=True)
    if as_json:
        print_json(found)
    else:
        ERR.print(in_one_line(found))


def is_output(what: str) -> bool:
    """Whether it is an output: jobs have no slash in their names, and no rackmill folder."""
    return "/" in what or (Path(what) / STATE).is_dir()


def drive_command(
    job: str,
    state: Annotated[Path, typer.Option()],
    address: Annotated[str, typer.Option()],
) -> None:
    """What the queue has Ray run for one job."""
    from pipeline.cli.run.run_watcher import attended, end_with
    from pipeline.service.queue.drive import drive

    with attended() as (watcher, stop):
        summary = drive(job, state, address, watcher, stop)
    end_with(summary)


def _client(address: str | None) -> QueueClient:
    from pipeline.service.queue.client import QueueClient

    return QueueClient(rack_address(address))


def _watched(client: QueueClient, job: str, *, quiet: bool) -> dict[str, Any]:
    """The job after its end; until then shows its progress on stderr."""
    from pipeline.cli.rack.jobs.show import JobDisplay

    found: dict[str, Any] = {}
    with JobDisplay(quiet=quiet) as display:
        for found in client.follow(job):
            display.show_job(found)
    return found


@contextmanager
def _left_alone(job: str, *, stopping: bool = False) -> Iterator[None]:
    """Ctrl-C ends the command that watches the job, with a message that the job goes on."""
    try:
        yield
    except KeyboardInterrupt:
        how = "is asked to stop, and will" if stopping else "goes on, or waits for its turn"
        raise Stopped(
            f"{job} {how}: only this command has ended",
            f"see it   rackmill watch {job}",
            *(() if stopping else (f"stop it  rackmill stop {job}",)),
        ) from None
