"""Taking an output folder over for a plan: the first thing of a run that changes anything.

Every step leaves the folder such that the same plan, made again, finds what is left to do: results
of rows that are no more go before the manifest stops naming their files, and what is moved is
never visible twice.
"""

from __future__ import annotations

from pipeline.driver.plan.plan import Plan
from pipeline.input.changes.content import with_contents
from pipeline.output.dataset import Dataset
from pipeline.output.manifest import add_contents
from pipeline.output.runs.job_file import job_content


def take_over(plan: Plan, dataset: Dataset, *, fresh: bool) -> None:
    """Make the output folder this plan's. No other run may be at work there.

    Raises UsageError when it is another job's, CommitFailed, StorageFailed.
    """
    if fresh or dataset.half_cleared:
        dataset.clear()
    dataset.take_over(plan.manifest)


def clean_up(plan: Plan, dataset: Dataset) -> None:
    """In the claimed folder: drop and move what the plan says, put right what a crash left.

    Raises CommitFailed, StorageFailed, JobFailed.
    """
    if plan.missing or plan.outgrown or plan.moved:
        dataset.reopen()
    dataset.discard(*plan.outgrown)
    dataset.forget_cuts(plan.stray_cuts)
    dataset.move(plan.moved)
    shards = with_contents(plan.input.files.shards)
    dataset.describe(add_contents(plan.manifest, shards), job_content(plan.job))
    dataset.recover(plan.committed.values())
