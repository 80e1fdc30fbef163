"""What was handed to ``run`` as a job: a job, a job file, or data and what to ask of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.interactive.frames import is_table, write_table
from pipeline.job.file.load import job_from, load_job
from pipeline.job.job import Job

_JOB_FILES = (".yaml", ".yml")
_MODEL = "gemma-3-270m"  # ships with every installation


def job_of(what: object, settings: Mapping[str, Any]) -> Job:
    """``settings``: keys of a job file; of one that is there already, those that change.

    ``choices`` and ``gold`` stand for ``label: {choices: …, gold: …}``, a text as ``output`` for
    ``output: {path: …}``. Raises UsageError.
    """
    given = _written_out(settings)
    if isinstance(what, Job):
        return what if not given else job_from(_merged(what.model_dump(mode="json"), given))
    if isinstance(what, str | Path) and str(what).lower().endswith(_JOB_FILES):
        import json

        lines = [f"{key}={json.dumps(value)}" for key, value in _flat(given)]
        return load_job(Path(what), lines)
    if isinstance(what, Mapping) and "input" in what:
        return job_from(_merged(dict(what), given))
    return job_from(_about_data(what, given))


def _about_data(what: object, given: dict[str, Any]) -> dict[str, Any]:
    if is_table(what) or isinstance(what, Mapping):
        path, name = str(write_table(what)), "table"
    elif isinstance(what, str | Path) or (
        isinstance(what, Sequence) and all(isinstance(one, str | Path) for one in what)
    ):
        paths = [str(what)] if isinstance(what, str | Path) else [str(one) for one in what]
        path, name = (paths[0] if len(paths) == 1 else paths), Path(paths[0]).stem  # type: ignore[assignment]
    else:
        raise UsageError(
            f"{type(what).__name__} is neither a job nor data",
            "give a job file, a Job, a mapping, a table of pandas, polars or Arrow, or a path",
        )
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "data"
    content = {"name": name, "model": _MODEL, "input": {"path": path}} | given
    if "prompt" not in content and "messages" not in content and "score" not in content:
        raise UsageError(
            "data alone does not say what to do with it",
            'give a prompt: run(data, prompt="{text}\\nTopic:", choices=["sport", "politics"])',
        )
    content.setdefault("output", {"path": f"runs/{content['name']}"})
    return content


def _written_out(settings: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in settings.items() if value is not None}
    label = {key: given.pop(key) for key in ("choices", "gold") if key in given}
    if label:
        given["label"] = {**given.get("label", {}), **label}
    for key in ("output", "input"):
        if isinstance(given.get(key), str | Path):
            given[key] = {"path": str(given[key])}
    return given


def _merged(content: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(content)
    for key, value in given.items():
        before = merged.get(key)
        both = isinstance(before, dict) and isinstance(value, Mapping)
        merged[key] = _merged(before, value) if both else value  # type: ignore[arg-type]
    return merged


def _flat(given: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in given.items():
        dotted = f"{before}{key}"
        if isinstance(value, Mapping) and value and dotted not in ("label.json_schema",):
            found += _flat(value, f"{dotted}.")
        else:
            found.append((dotted, value))
    return found
