"""A job as stored beside its output: `retry` needs it, and `run` takes it as a job file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pipeline.input.changes.compare import absolute
from pipeline.job.job import Job

_HIDDEN = "**********"  # how pydantic writes a secret


def job_content(job: Job) -> dict[str, Any]:
    """``job`` as plain data that `job_from` reads back, with paths that are valid in any working
    folder, without defaults and secrets."""
    content: dict[str, Any] = _without_secrets(job.model_dump(mode="json", exclude_defaults=True))
    if job.label and job.label.json_schema:
        content["label"]["json_schema"] = job.label.json_schema  # null members and their order
    path = job.input.path
    content["input"]["path"] = (
        _unfollowed(path) if isinstance(path, str) else [_unfollowed(p) for p in path]
    )
    if job.input.skip_rows:
        skipped = {_unfollowed(path): rows for path, rows in job.input.skip_rows.items()}
        content["input"]["skip_rows"] = skipped
    content["output"]["path"] = absolute(job.output.path)
    if Path(job.model).exists():
        content["model"] = absolute(job.model)
    for asked in job.asked:
        if asked.graded.gold_file is not None:
            section = content["label"] if asked.text is None else content["questions"][asked.name]
            section["gold"]["path"] = _unfollowed(str(asked.graded.gold_file.path))
    if job.duplicates.store is not None:
        content["duplicates"]["store"] = absolute(job.duplicates.store)
    return content


def _unfollowed(path: str) -> str:
    """A local path that is valid in any working folder, through the same links: behind a link, the
    file's name may mean another format, and its folders other columns."""
    if "://" in path:
        return path
    plain = os.path.abspath(path)
    led_out = os.path.realpath(plain) != os.path.realpath(path)  # by ".." behind a link
    return absolute(path) if led_out else plain


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_secrets(v) for k, v in value.items() if v != _HIDDEN}
    return value
