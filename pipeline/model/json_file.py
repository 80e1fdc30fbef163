"""Reads the small files of a checkpoint folder, with limits: others wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError

_MOST_BYTES = 64 << 20


def read_text(path: Path) -> str:
    """The text of a file. Raises UsageError: no file, too large, not UTF-8."""
    try:
        if not path.is_file():
            raise ValueError("there is no such file")
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ValueError(f"it is larger than {_MOST_BYTES >> 20} MiB")
        return content.decode("utf-8")
    except (OSError, ValueError) as e:
        raise UsageError(f"model: {path} cannot be read: {e}") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises UsageError."""
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise UsageError(f"model: {path} cannot be read: it is not JSON ({e})") from None
    if not isinstance(content, dict):
        raise UsageError(f"model: {path} cannot be read: it is not an object")
    return content
