"""A job's JSON schema as servers are given it: what the job leaves open, each takes in its own way.
Pure."""

from __future__ import annotations

import copy
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
    return _closed(schema)


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    made = copy.copy(schema)
    if "properties" in schema and not any(name in schema for name in _OTHER_NAMES):
        made["additionalProperties"] = False
    for path, inner in inner_schemas(schema):
        key, place = str(path[0]), path[1:]
        if key == "allOf" or not isinstance(inner, dict):
            continue  # parts of one object: each would forbid what the others name
        if place:
            made[key] = copy.copy(made[key])
            made[key][place[0]] = _closed(inner)
        else:
            made[key] = _closed(inner)
    return made
