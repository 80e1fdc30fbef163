"""A job's parts as they are on a worker's machine: its model, and the folders it reads."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pipeline.errors import MachineUnfit, UsageError
from pipeline.model.stand_in import resolve_for_rehearsal
from pipeline.model.store.resolve import resolve
from pipeline.output.commit.records import MANIFEST
from pipeline.worker.coordination.messages import WorkerSpec

_CONFIG = "config.json"


def localize_spec(spec: WorkerSpec, say: Callable[[str], None]) -> WorkerSpec:
    """``spec`` with the model in this machine's own store, downloaded first if it is not there.

    Raises MachineUnfit where the model differs here, or folders of the job are missing.
    """
    _check_folders(spec)
    wanted, reference = spec.model, spec.job.model
    if (Path(wanted.path) / _CONFIG).exists():  # a model lies there
        model = replace(wanted)  # read again
        if not model.provenance.get("weights_sha256"):
            return spec  # a user's folder: its hash includes file times
    else:
        find = resolve if spec.job.engine.computes else resolve_for_rehearsal
        try:
            model = find(reference, say)
        except UsageError as e:
            hints = " ".join(e.hints)
            reason = f"{platform.node()} cannot get the model: {e.message} {hints}"
            raise MachineUnfit(reason) from e
    if spec.job.engine.computes and model.hash != wanted.hash:
        raise MachineUnfit(
            f"{platform.node()} has another {reference} ({model.hash[:12]}) than the machine where "
            f"the job was started ({wanted.hash[:12]})",
            "name one and the same for all: model: hf://OWNER/NAME@COMMIT; where it is rounded to "
            "4 bits, which processors do a little differently, a folder that all machines see",
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
