"""Finds the GGUF file that a model was made from, if it is still on this machine."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import MachineUnfit
from pipeline.model import catalogue
from pipeline.model.folder import ModelFolder
from pipeline.model.store.build import content_key
from pipeline.model.store.index import store_root
from pipeline.model.store.resolve import package_file


def gguf_of(reference: str, model: ModelFolder) -> Path:
    """For an engine that reads GGUF files directly. ``reference``: a job's ``model:``. Raises
    MachineUnfit."""
    if reference.endswith(".gguf") and Path(reference).is_file():
        return Path(reference).resolve()
    entry = None if Path(reference).is_dir() else catalogue.CATALOGUE.get(reference)
    if entry is not None and entry.source.package:
        return package_file(entry.source)
    key = model.provenance.get("gguf_key")
    for path in sorted((store_root().parent / "downloads").rglob("*.gguf")) if key else ():
        if content_key(path) == key:
            return path
    raise MachineUnfit(
        f"the GGUF file of {reference} is not on this machine",
        "name one: engine.model_file: PATH",
    )
