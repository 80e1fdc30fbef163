"""A job's parts as the machine of a worker has them: its model, and the folders it is to read."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pipeline.data.records import MANIFEST
from pipeline.errors import MachineUnfit, UsageError
from pipeline.fleet.work import WorkerSpec
from pipeline.model.store import resolve

_PROVENANCE = "config.json"


def at_home(spec: WorkerSpec, say: Callable[[str], None]) -> WorkerSpec:
    """``spec`` with the model in this machine's own store, fetched first if it is not there.

    Raises MachineUnfit where the model is another one here, or folders of the job are missing.
    """
    _check_folders(spec)
    if (Path(spec.model.path) / _PROVENANCE).exists():
        return spec
    reference = spec.job.model
    try:
        model = resolve(reference, say)
    except UsageError as e:
        hints = " ".join(e.hints)
        raise MachineUnfit(f"{platform.node()} cannot get the model: {e.message} {hints}") from e
    if model.hash != spec.model.hash:
        raise MachineUnfit(
            f"{platform.node()} has another {reference} ({model.hash[:12]}) than the machine where "
            f"the job was started ({spec.model.hash[:12]})",
            "name one and the same for all: model: hf://OWNER/NAME@COMMIT",
        )
    return replace(spec, model=model)


def _check_folders(spec: WorkerSpec) -> None:
    output = spec.job.output.path
    paths = [] if "://" in output else [Path(output) / MANIFEST]
    paths += [Path(s.path) for s in spec.shards[:1] if "://" not in s.path]
    for path in paths:
        if not path.exists():
            raise MachineUnfit(
                f"{platform.node()} does not see {path}",
                "mount the folder there under the same name, or use s3://… or the like",
            )
