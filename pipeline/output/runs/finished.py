"""Whether an output is complete and no longer changes."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.errors import UsageError
from pipeline.output.dataset import Dataset
from pipeline.output.growing.growing import parts_of
from pipeline.output.runs.run_registry import refuse_second
from pipeline.output.runs.status import read_status


def need_finished(output: str, note: Callable[[str], None] = lambda line: None) -> None:
    """Raises UsageError if the output lacks rows; AlreadyRunning if it is being written. ``note``
    gets a line before something that takes long."""
    for part in parts_of(output):
        refuse_second(part, note)
        if not Dataset(part).finished:
            status = read_status(part)
            raise UsageError(
                f"{output} is not finished: {status.rows_done} of {status.rows} rows are there, "
                "and a sample is drawn from all",
                f"go on with it first: rackmill run {part.address('_rackmill/job.json')}",
            )
