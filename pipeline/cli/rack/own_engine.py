"""The engine that a machine has in a rack instead of vLLM, from the options of `rack join`."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from pipeline.errors import UsageError
from pipeline.job.engine import EngineSettings


def own_engine(kind: str | None, url: str | None, api_key: str | None) -> dict[str, Any] | None:
    """As in a job's ``engine``; None: vLLM. Raises UsageError if it is invalid."""
    if kind is None and url is None and api_key is None:
        return None
    given = {"kind": kind or "openai", "url": url, "api_key": api_key}
    asked = {key: value for key, value in given.items() if value is not None}
    try:
        found = EngineSettings.model_validate(asked)
    except ValidationError as e:
        why = e.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"--engine, --endpoint: {why}",
            "rackmill rack join HEAD:PORT --engine ollama --endpoint http://127.0.0.1:11434",
        ) from None
    if not found.served:
        raise UsageError(
            f"--engine {found.kind} is no server",
            "vLLM is the engine of a machine that is told of no other: leave --engine away",
        )
    return found.model_dump(mode="json", exclude_unset=True)
