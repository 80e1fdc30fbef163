"""JSON schemas written out: what pydantic and others write as references."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pipeline.job.answer.plain_schema import written_out
from tests.support.samples import quick


class Size(BaseModel):
    cm: int
    unit: str = "cm"


class Item(BaseModel):
    color: str
    size: Size | None = None
    sizes: list[Size]


def obj(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def test_a_schema_without_references_stays_as_it_is() -> None:
    schema = obj(a={"type": "string", "maxLength": 3}, b={"enum": ["x", "y"]})

    assert written_out(schema) == schema


def test_references_are_followed() -> None:
    made = written_out(Item.model_json_schema())

    assert "$defs" not in made
    size = made["properties"]["size"]["anyOf"][0]
    assert size["properties"]["cm"]["type"] == "integer"
    assert made["properties"]["sizes"]["items"] == size


def test_what_stands_beside_a_reference_counts_too() -> None:
    schema = obj(a={"$ref": "#/$defs/N", "minimum": 3, "title": "own"})
    schema["$defs"] = {"N": {"type": "integer", "minimum": 1, "maximum": 9, "title": "its"}}

    made = written_out(schema)["properties"]["a"]
    assert made == {"type": "integer", "minimum": 3, "maximum": 9, "title": "own"}


def test_a_property_named_as_a_key_is_a_property() -> None:
    schema = obj(**{"$ref": {"type": "string"}, "allOf": {"type": "integer"}})

    assert written_out(schema) == schema


def test_all_of_becomes_one_schema() -> None:
    one = obj(a={"type": "number"})
    other = {"properties": {"a": {"type": "integer", "maximum": 3}, "b": {"type": "string"}}}

    made = written_out({"allOf": [one, other]})
    assert made["properties"] == {"a": {"type": "integer", "maximum": 3}, "b": {"type": "string"}}
    assert made["required"] == ["a"]


def test_what_cannot_be_one_schema_stays_all_of() -> None:
    part = {"allOf": [{"type": "string", "pattern": "a"}, {"pattern": "b"}]}

    assert written_out(part)["allOf"] == [{"pattern": "b"}]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([{"type": "string"}, {"type": "integer"}], "no type in common"),
        ([{"enum": ["a"]}, {"enum": ["b"]}], "no enum in common"),
        ([{**obj(a={}), "additionalProperties": False}, obj(b={})], "forbids 'b'"),
    ],
)
def test_all_of_that_nothing_meets_is_refused(parts: list[Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        written_out({"allOf": parts})


def test_a_schema_that_holds_itself_keeps_its_reference() -> None:
    node = obj(next={"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}]})
    made = written_out({"$defs": {"N": node}, "$ref": "#/$defs/N"})

    assert made["properties"]["next"]["anyOf"][0] == {"$ref": "#/$defs/N"}
    assert made["$defs"] == {"N": node}


def test_references_that_double_without_end_are_refused() -> None:
    defs = {
        f"d{n}": obj(a={"$ref": f"#/$defs/d{n + 1}"}, b={"$ref": f"#/$defs/d{n + 1}"})
        for n in range(30)
    }
    with pytest.raises(ValueError, match="too large"):
        written_out({"$defs": defs | {"d30": {"type": "string"}}, "$ref": "#/$defs/d0"})


_NUMBERS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["integer", "number", ["integer", "null"]]),
        "minimum": st.integers(0, 5),
        "maximum": st.integers(3, 9),
        "multipleOf": st.integers(1, 3),
        "enum": st.lists(st.integers(0, 9), min_size=1, unique=True),
        "title": st.text(max_size=3),
    },
)
_VALUES = st.one_of(st.none(), st.integers(-1, 10), st.sampled_from([0.5, 3.0, "a"]))


@quick
@given(st.lists(_NUMBERS, min_size=1, max_size=3), _NUMBERS, st.lists(_VALUES, max_size=12))
def test_the_same_values_meet_it(parts: list[Any], own: dict[str, Any], values: list[Any]) -> None:
    schema = {**own, "allOf": [{"$ref": "#/$defs/d"}, *parts[1:]], "$defs": {"d": parts[0]}}
    meets = jsonschema.Draft202012Validator(schema).is_valid
    try:
        same = jsonschema.Draft202012Validator(written_out(schema)).is_valid
    except ValueError:
        assert not any(meets(value) for value in values)
        return
    assert [same(value) for value in values] == [meets(value) for value in values]
