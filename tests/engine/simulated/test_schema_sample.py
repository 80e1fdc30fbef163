"""Answers of the simulated engine to JSON schemas."""

from __future__ import annotations

import random
from typing import Any

import jsonschema
import pytest

from pipeline.engine.simulated.schema_sample import NoSample, SchemaSampler
from pipeline.job.answer.plain_schema import written_out

_NODE = {
    "type": "object",
    "properties": {"next": {"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}]}},
    "required": ["next"],
}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "string", "pattern": "^[0-9]{5}$"},
        {"type": "string", "pattern": "[A-Z]{2}-[0-9]+"},
        {"type": "string", "minLength": 12, "maxLength": 14},
        {"type": "string", "format": "date", "pattern": "^20"},
        {"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 100},
        {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        {"type": "number", "multipleOf": 0.5, "minimum": 1},
        {"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True, "minItems": 2},
        {"type": "array", "items": {"type": "integer"}, "maxItems": 0},
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "null"}], "minItems": 2},
        {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2},
        {"allOf": [{"type": "integer"}, {"minimum": 3}]},
        {"anyOf": [{"type": "integer", "minimum": 3}, {"type": "null"}]},
        {"if": {"const": "a"}, "then": False, "enum": ["a", "b"]},
        {"$ref": "#/$defs/N"},
    ],
)
def test_answers_meet_the_schema(part: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"p": part}, "required": ["p"]}
    schema["$defs"] = {"N": _NODE}
    sampler = SchemaSampler(written_out(schema), ["a", "the"])

    for seed in range(20):
        jsonschema.validate(sampler.sample(random.Random(seed)), schema)


def test_a_schema_that_it_finds_no_answer_to_is_said_with_its_key() -> None:
    schema = {"type": "object", "properties": {"p": {"type": "string", "not": {}}}}

    with pytest.raises(NoSample, match=r"properties\.p\.not"):
        SchemaSampler(schema, ["a"]).sample(random.Random(0))
