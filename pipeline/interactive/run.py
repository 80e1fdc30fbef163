"""A run from Python: it shows its progress like the command does, and nothing else."""

from __future__ import annotations

import logging
import sys
import warnings
from contextlib import redirect_stdout
from typing import Any

from pipeline.cli.run.run_watcher import RunWatcher
from pipeline.driver.progress.watcher import Watcher, Watchers
from pipeline.driver.run import RunOptions
from pipeline.driver.run import run as run_job
from pipeline.driver.stop.stop import Stop
from pipeline.interactive.job_of import job_of
from pipeline.interactive.result import Result


def run(
    what: object,
    options: RunOptions | None = None,
    watcher: Watcher | None = None,
    stop: Stop | None = None,
    *,
    progress: bool = True,
    **settings: Any,
) -> Result:
    """Run a job, reusing what an earlier run of it committed, and return its rows.

    ``what``: a ``Job``, a job file, a mapping like one; or data (a table of pandas, polars or
    Arrow, a mapping of columns, a path), with ``prompt=…`` and other keys of a job file:
    ``model``, ``choices``, ``gold``, ``sampling={…}``, ``output`` (see ``job_of``).
    ``progress``: show it on a terminal or in a notebook.
    ``stop.ask()``, from any thread, stops the run gracefully; ``run`` then raises Stopped.

    Raises UsageError, JobFailed.
    """
    job = job_of(what, settings)
    if not progress:
        return Result(run_job(job, options, watcher, stop))
    # no widgets of other libraries: in a notebook they would ask for ipywidgets
    warnings.filterwarnings("ignore", "IProgress not found")
    logging.getLogger("ray.widgets.util").setLevel(logging.WARNING)
    # what Ray itself prints must not get into data on stdout
    with RunWatcher() as shown, redirect_stdout(sys.stderr):
        both = shown if watcher is None else Watchers(shown, watcher)
        return Result(run_job(job, options, both, stop))
