"""The job that ``run`` was given: a job, a job file, or data and what to ask about it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.interactive.frames import is_table, write_table
from pipeline.job.file.lay_over import plain
from pipeline.job.file.load import job_from, load_job
from pipeline.job.fingerprint import digest, fingerprint_parts
from pipeline.job.job import Job

_JOB_FILES = (".yaml", ".yml")
_MODEL = "gemma-3-270m"  # ships with every installation


def job_of(what: object, settings: Mapping[str, Any]) -> Job:
    """``settings``: keys of a job file; if ``what`` is a job already, the keys that change. None
    removes a key of a job; for data it is as if the key were not given.

    ``choices`` and ``gold`` stand for ``label: {choices: …, gold: …}``, a text as ``output`` for
    ``output: {path: …}``. Without an ``output``, data gets runs/NAME, and a table a folder named
    by its content and what is asked. Raises UsageError.
    """
    given = _written_out(settings)
    if isinstance(what, Job):
        return job_from(what.model_dump(mode="json"), over=given) if given else what
    if isinstance(what, str | Path) and str(what).lower().endswith(_JOB_FILES):
        return load_job(Path(what), over=given)
    if isinstance(what, Mapping) and not _is_columns(what):
        if what and not set(what) & set(Job.model_fields):
            raise _neither(what, "the columns of data are lists or arrays of one length")
        return job_from(plain(what), over=given)
    return _about_data(what, given)


def _is_columns(what: Mapping[Any, Any]) -> bool:
    """Whether a mapping is data: at least one sequence or array, and all of one length."""
    no_columns = (str, bytes, bytearray, Mapping)
    values = list(what.values())
    if not all(hasattr(v, "__getitem__") and not isinstance(v, no_columns) for v in values):
        return False
    try:
        return len({len(v) for v in values}) == 1
    except TypeError:  # it has no length, as an array without a dimension
        return False


def _about_data(what: object, given: dict[str, Any]) -> Job:
    table = is_table(what) or isinstance(what, Mapping)
    if table:
        paths = [str(write_table(what))]
    elif isinstance(what, str | Path):
        paths = [str(what)]
    elif isinstance(what, Sequence) and all(isinstance(one, str | Path) for one in what):
        paths = [str(one) for one in what]
    else:
        raise _neither(
            what, "give a job file, a Job, a mapping, a table of pandas, polars or Arrow, or a path"
        )
    if not paths:
        raise UsageError("there is no data: the list of paths is empty", "name a file or a folder")
    asked = {key for key, value in given.items() if value is not None}
    if not asked & {"prompt", "messages", "score"}:
        raise UsageError(
            "data alone does not say what to do with it",
            'give a prompt: run(data, prompt="{text}\\nTopic:", choices=["sport", "politics"])',
        )
    stem = "table" if table else Path(paths[0]).stem
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "data"
    if "name" in asked and isinstance(given["name"], str):
        name = given["name"]
    content: dict[str, Any] = {
        "name": name,
        "model": _MODEL,
        "input": {"path": paths[0] if len(paths) == 1 else paths},
        "output": {"path": f"runs/{name}"},
    }
    job = job_from(content, over={key: given[key] for key in asked})
    output = given.get("output")
    if not table or (isinstance(output, dict) and output.get("path") is not None):
        return job
    own = {"path": f"runs/{name}-{_asked_of(job, Path(paths[0]).stem)}"}
    return job_from(job.model_dump(mode="json"), over={"output": own})


def _asked_of(job: Job, table: str) -> str:
    """Eight digits that differ if ``job`` asks something else, or about another ``table`` (named by
    its content)."""
    source = [table, job.input.model_dump(mode="json", exclude={"path"})]
    parts = fingerprint_parts(job, model_hash=job.model, input_hash=digest(source))
    return digest(parts)[:8]


def _neither(what: object, hint: str) -> UsageError:
    return UsageError(f"this {type(what).__name__} is neither a job nor data", hint)


def _written_out(settings: Mapping[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = plain(settings)
    shape = {key: given.pop(key) for key in ("choices", "gold") if key in given}
    around = given.get("label")
    if shape and not isinstance(around, dict | None):
        raise UsageError(
            f"label is given as {type(around).__name__}, beside {' and '.join(shape)}",
            'give label={"choices": […], "gold": …}, or choices= and gold= without label',
        )
    taken_away = "label" in given and around is None
    if shape and (not taken_away or any(value is not None for value in shape.values())):
        given["label"] = {**(around or {}), **shape}
    for key in ("output", "input"):
        if isinstance(given.get(key), str):
            given[key] = {"path": given[key]}
    return given
