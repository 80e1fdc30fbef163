"""The schema that servers are given."""

from __future__ import annotations

import json
from typing import Any

from pipeline.engine.http.held_schema import held_schema
from pipeline.rows.request import Structure


def held(schema: dict[str, Any]) -> dict[str, Any]:
    return held_schema(Structure(json_schema=json.dumps(schema)))


def test_objects_have_no_properties_but_those_named_at_whatever_depth() -> None:
    inner = {"type": "object", "properties": {"a": {"type": "string"}}}
    schema = {
        "properties": {"one": inner, "many": {"type": "array", "items": inner}},
        "$defs": {"other": inner},
    }
    closed = inner | {"additionalProperties": False}

    assert held(schema) == {
        "properties": {"one": closed, "many": {"type": "array", "items": closed}},
        "$defs": {"other": closed},
        "additionalProperties": False,
    }


def test_what_the_job_says_of_other_properties_stays() -> None:
    numbers = {"properties": {"a": {}}, "additionalProperties": {"type": "number"}}
    patterns = {"properties": {"a": {}}, "patternProperties": {"^x": {}}}

    assert held(numbers) == numbers
    assert held(patterns) == patterns
    assert held({"type": "object"}) == {"type": "object"}


def test_parts_of_one_object_do_not_forbid_one_another() -> None:
    parts = {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}

    assert held(parts) == parts
