"""Makes a checkpoint folder from a GGUF file, with facts for checking the folder later."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.model.catalogue import Precision

GROUP_SIZE = 32
_SAMPLES = 64
_SAMPLE_BYTES = 1 << 16


def make_checkpoint(
    source: Path,
    target: Path,
    *,
    precision: Precision = "int4",
    group_size: int = GROUP_SIZE,
    keep_bf16: bool = False,
    calibration: Sequence[str] | None = None,
    facts: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Convert ``source`` (.gguf) into the new folder ``target``. Returns the report as data.

    ``facts`` about the origin of the file go into the folder's ``rackmill.json``.
    Raises UsageError; then nothing is left behind.
    """
    from pipeline.model.convert.convert import convert  # torch: seconds to import

    facts = {"precision": precision, "gguf_key": content_key(source), **(facts or {})}
    report = convert(
        source,
        target,
        precision=precision,
        group_size=group_size,
        keep_bf16=keep_bf16,
        calibration=calibration,
        source_facts=facts,
        progress=progress,
    )
    return dict(report.as_json())


def content_key(path: Path) -> str:
    """16 hex digits that identify a GGUF file by content, not by path or name: SHA-256 over size,
    head, end and 64 samples spread evenly between. Hashing all of a 17 GB file before every run
    would take longer than planning it; two models differ in nearly every block, so samples are
    enough."""
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"model: {path} is not a file", "give a .gguf file")
        size = path.stat().st_size
        digest = hashlib.sha256(str(size).encode())
        with path.open("rb") as file:
            step = max(_SAMPLE_BYTES, (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
            for start in (*range(0, size, step), max(0, size - _SAMPLE_BYTES)):
                file.seek(start)
                digest.update(file.read(_SAMPLE_BYTES))
    except OSError as e:
        raise UsageError(f"model: {path} cannot be read: {e.strerror or e}") from None
    return digest.hexdigest()[:16]
