"""The model of a job: found, and what identifies it."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.job.job import Job
from pipeline.model.folder import ModelFolder
from pipeline.model.stand_in import rehearsed_hash, resolve_for_rehearsal
from pipeline.model.store.resolve import resolve


def find_model(job: Job, report: Callable[[str], None] = lambda line: None) -> ModelFolder:
    """The job's model, fetched and converted first if that is needed. Raises UsageError."""
    return (resolve if job.computes else resolve_for_rehearsal)(job.model, report)


def model_identity(job: Job, model: ModelFolder) -> str:
    """What of the model makes two runs the same job."""
    return model.hash if job.computes else rehearsed_hash(job.model, model)
