"""`rackmill retry`: computes only the error rows, into the same dataset."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import Json, OutputFolder, Workers, address_option, set_option

if TYPE_CHECKING:
    from pipeline.driver.retry import RetryOptions


def retry_command(
    output: OutputFolder,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TYPE",
            help="Only errors of this type (may be repeated); by default all but InvalidRow and "
            "InvalidSampling, which would end alike.",
        ),
    ] = None,
    workers: Workers = None,
    settings: Annotated[
        list[str] | None,
        set_option("Change an operational setting, as engine.max_model_len (may be repeated)."),
    ] = None,
    job: Annotated[
        Path | None,
        typer.Option(metavar="JOB.yaml", help="The job file, if the output does not hold it."),
    ] = None,
    address: Annotated[str | None, address_option("Join this Ray instead of starting one.")] = None,
    as_json: Json = False,
) -> None:
    """Do the error rows again; all others stay as they are. Exit 0: no error row is left; 3: some
    are; 1: not finished; 2: bad input; 130: stopped on request."""
    from pipeline.cli.run.run_watcher import attended, end_with
    from pipeline.driver.retry import RetryOptions, retry

    lines = [*(settings or []), *([f"resources.workers={workers}"] if workers else [])]
    options = RetryOptions(tuple(only or ()), tuple(lines), job, address)
    with attended() as (watcher, stop), _in_the_queue(output, options) as queued:
        summary = retry(output, replace(options, queued=queued), watcher, stop)
    end_with(summary, as_json)


@contextmanager
def _in_the_queue(output: str, options: RetryOptions) -> Iterator[str | None]:
    """Through the rack's queue, if the run is on a rack that has one."""
    from pipeline.driver.retry import find_job
    from pipeline.output.dataset import Dataset
    from pipeline.service.queue.unsubmitted_runs import guest_of
    from pipeline.storage.base import open_storage

    dataset = Dataset(open_storage(output))
    if options.address is None or dataset.manifest() is None:
        yield None  # if there is nothing to retry, ``retry`` says so
        return
    job = find_job(dataset, output, options)
    with guest_of(options.address, job) as name:
        yield name
