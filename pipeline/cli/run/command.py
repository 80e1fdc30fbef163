"""`rackmill run`: runs a job."""

from __future__ import annotations

from threading import Timer
from typing import Annotated

from pipeline.cli.options import (
    Fresh,
    JobFile,
    Json,
    Output,
    Rows,
    Settings,
    Workers,
    address_option,
    load_with,
)
from pipeline.cli.rack.command import rack_address
from pipeline.cli.terminal.console import note

_LONGEST = 200  # characters of a path
_SOON_SECONDS = 0.5  # errors are found sooner, and are then printed alone


def run_command(
    job: JobFile,
    output: Output = None,
    rows: Rows = None,
    workers: Workers = None,
    settings: Settings = None,
    fresh: Fresh = False,
    address: Annotated[
        str | None, address_option("On this rack; auto: the one of this machine.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Do the job. Exit 0: every row succeeded; 3: some failed; 1: not finished; 2: bad input;
    130: stopped on request."""
    loaded = load_with(job, settings, output=output, workers=workers)
    path = loaded.input.path
    where = path if isinstance(path, str) else f"{path[0]} and {len(path) - 1} more"
    if len(where) > _LONGEST:
        where = f"{where[:_LONGEST]}…"
    looking = Timer(_SOON_SECONDS, note, (f"input   {where}",))  # imports and input take seconds
    looking.daemon = True
    looking.start()
    from pipeline.cli.run.run_watcher import attended, end_with
    from pipeline.driver.run import RunOptions, run
    from pipeline.service.queue.unsubmitted_runs import guest_of

    try:
        address = rack_address(address) if address == "auto" else address
        with attended() as (watcher, stop), guest_of(address, loaded) as queued:
            options = RunOptions(rows, fresh, address, queued, patient=queued is not None)
            summary = run(loaded, options, watcher, stop)
    finally:
        looking.cancel()
    end_with(summary, as_json)
