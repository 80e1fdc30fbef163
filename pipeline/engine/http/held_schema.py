"""A job's JSON schema as servers are given it: what the job leaves open, each takes in its own way.
Pure."""

from __future__ import annotations

import json
from typing import Any

from pipeline.job.answer.plain_schema import inner_schemas
from pipeline.rows.request import Structure

_OTHER_NAMES = ("additionalProperties", "patternProperties", "unevaluatedProperties")


def held_schema(structure: Structure) -> dict[str, Any]:
    """The schema of ``structure``, in which objects that name their properties have no others, as
    vLLM's grammars hold it. llama.cpp may be built with a grammar compiler (llguidance) that lets
    a model add properties of its own until its answer is cut off."""
    schema: dict[str, Any] = json.loads(structure.json_schema or "{}")
    _close(schema)
    return schema


def _close(schema: dict[str, Any]) -> None:
    inside = list(inner_schemas(schema))
    if "properties" in schema and not any(name in schema for name in _OTHER_NAMES):
        schema["additionalProperties"] = False
    for path, inner in inside:
        # parts of one object (allOf) stay open: each would forbid what the others name
        if path[0] != "allOf" and isinstance(inner, dict):
            _close(inner)
