"""`rackmill submit`, `jobs`, `watch`, `logs`, `stop`: jobs in the queue of a rack."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.console import make_console, print_json
from pipeline.cli.rack import rack_address

if TYPE_CHECKING:
    from pipeline.service.queue.client import QueueClient

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="Its id, or its name: the last one.")]
Address = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Of the rack's head; else the rack of this machine."),
]


def submit_command(
    job: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.")],
    address: Address = None,
    priority: Annotated[
        int, typer.Option(metavar="N", help="Higher ones take cards from lower ones.")
    ] = 0,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Instead of the job file's.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(metavar="PATH", help="Instead of output.path.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Only the first N rows.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Engines to run at once, at most.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change one setting."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it has ended.")] = False,
    as_json: Json = False,
) -> None:
    """Put a job into the queue of a rack; this machine is not needed any more then. With --wait the
    exit code is that of `run`."""
    from pipeline.cli.main import load_with
    from pipeline.cli.show_jobs import print_submitted
    from pipeline.service.queue.client import exit_code

    loaded = load_with(job, settings, output=output, workers=workers)
    client = _client(address)
    submitted = client.submit(loaded, priority=priority, name=name, rows=rows)
    console = make_console(stderr=True)
    if not as_json:
        print_submitted(console, submitted)
    if not wait:
        if as_json:
            print_json(submitted)
        return
    ended = _watched(client, submitted["id"], quiet=as_json)
    if as_json:
        print_json(ended)
    raise typer.Exit(exit_code(ended))


def jobs_command(address: Address = None, as_json: Json = False) -> None:
    """The jobs of a rack: those that run or wait, in their order, then those that have ended."""
    from pipeline.cli.show_jobs import print_jobs

    found = _client(address).jobs()
    if as_json:
        print_json({"jobs": found})
    else:
        print_jobs(make_console(), found)


def watch_command(job: JobName, address: Address = None, as_json: Json = False) -> None:
    """Show how far a submitted job is, until it has ended. Ctrl-C leaves it alone."""
    from pipeline.service.queue.client import exit_code

    ended = _watched(_client(address), job, quiet=as_json)
    if as_json:
        print_json(ended)
    raise typer.Exit(exit_code(ended))


def logs_command(
    job: JobName,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")
    ] = False,
    address: Address = None,
) -> None:
    """What a submitted job has printed."""
    for text in _client(address).log(job, follow=follow):
        sys.stdout.write(text)
        sys.stdout.flush()


def stop_command(
    job: JobName,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Until it has stopped, or not.")
    ] = True,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Stop a submitted job gracefully: what its engines are at is finished and committed."""
    from pipeline.cli.show_jobs import in_one_line

    client = _client(address)
    found = client.stop(job)
    if wait:
        found = _watched(client, found["id"], quiet=True)
    if as_json:
        print_json(found)
    else:
        make_console(stderr=True).print(in_one_line(found), markup=False)


def drive_command(
    job: str,
    state: Annotated[Path, typer.Option()],
    address: Annotated[str, typer.Option()],
) -> None:
    """What the queue has Ray run for one job."""
    from pipeline.cli.interrupts import stopping_on_signals
    from pipeline.cli.watch import make_watcher, print_result
    from pipeline.driver.stop import Stop
    from pipeline.service.queue.drive import drive

    console = make_console(stderr=True)
    watcher, stop = make_watcher(console), Stop()
    with watcher, contextlib.redirect_stdout(sys.stderr), stopping_on_signals(stop):
        summary = drive(job, state, address, watcher, stop)
    print_result(console, summary)
    raise typer.Exit(summary.exit_code)


def _client(address: str | None) -> QueueClient:
    from pipeline.service.queue.client import QueueClient

    return QueueClient(rack_address(address))


def _watched(client: QueueClient, job: str, *, quiet: bool) -> dict[str, Any]:
    """The job as it has ended; shows its way there on stderr."""
    from pipeline.cli.show_jobs import JobDisplay

    found: dict[str, Any] = {}
    with JobDisplay(make_console(stderr=True), quiet=quiet) as display:
        for found in client.follow(job):
            display.show(found, time.time())
    return found
