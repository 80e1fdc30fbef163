"""Where a job may write: never among its own input, or the next run would read what this one
wrote."""

from __future__ import annotations

import fnmatch
import os
from posixpath import normpath

from pipeline.errors import UsageError
from pipeline.job.job import Job


def check_places(job: Job) -> None:
    """Raise UsageError if the output or the store of answers is where input is searched for."""
    patterns = (job.input.path,) if isinstance(job.input.path, str) else job.input.path
    for key, place in (
        ("output.path", job.output.path),
        ("duplicates.store", job.duplicates.store),
    ):
        if place is None:
            continue
        target = whole(place)
        for pattern in patterns:
            if _looks_into(whole(pattern), target):
                raise UsageError(
                    f"{key} {place} lies in the input ({pattern}): its files would be read as rows",
                    "give a folder outside of it",
                )


def _looks_into(source: str, target: str) -> bool:
    """Whether files in the folder ``target`` belong to the input ``source``."""
    if not any(c in source for c in "*?["):
        return f"{target}/".startswith(f"{source}/")
    # "*" of fnmatch also matches slashes, as "**" does
    wide = source.replace("**/", "*").replace("**", "*") if "**" in source else source
    inside = f"{target}/00000-000000000000.parquet"
    same_depth = inside.count("/") == source.count("/")
    return ("**" in source or same_depth) and fnmatch.fnmatchcase(inside, wide)


def whole(address: str) -> str:
    """``address`` in the form for comparison: one spelling per place."""
    if "://" in address:
        protocol, _, path = address.partition("://")
        return normpath(path) if protocol in ("file", "local") else f"{protocol}://{normpath(path)}"
    return os.path.abspath(address)
