"""A JSON schema written out: references and ``allOf`` are replaced by their content. Pure.

pydantic writes nested models as ``$ref``, optional ones as ``anyOf`` with null, and older versions
wrap references in ``allOf``. Grammar compilers support only some of that, and columns and rehearsed
answers need to see the types. Every layer works on the result of this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

Schema = Mapping[str, Any]

_MOST_PARTS = 10_000  # of the result: references to references double each time
_MAPS = ("properties", "patternProperties", "dependentSchemas")  # name -> schema
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE = (
    *("items", "additionalProperties", "contains", "propertyNames", "not", "if", "then", "else"),
    *("unevaluatedItems", "unevaluatedProperties"),
)
_DEFINITIONS = ("$defs", "definitions")
_NOTES = ("title", "description", "default", "examples", "$comment", "deprecated")
_LARGEST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_SMALLEST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_TYPES: dict[type, str] = {bool: "boolean", int: "integer", float: "number"}


class _NoMerge(Exception):
    """Two parts that only ``allOf`` itself can express."""


def written_out(schema: Schema) -> dict[str, Any]:
    """``schema`` without references, except recursive ones (their targets are kept), and with
    ``allOf`` merged into one schema where possible.

    Raises ValueError if the result is too large, or if no value can match it.
    """
    writer = _Writer(schema)
    made: dict[str, Any] = writer.schema(schema, ())
    if writer.recursive:
        made |= {key: schema[key] for key in _DEFINITIONS if key in schema}
    return made


def inner_schemas(schema: Schema) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """The direct subschemas, including definitions, each with the keys that lead to it."""
    for key in (*_MAPS, *_DEFINITIONS):
        if isinstance(found := schema.get(key), Mapping):
            yield from (((key, name), inner) for name, inner in found.items())
    for key in _LISTS:
        if isinstance(found := schema.get(key), list | tuple):
            yield from (((key, number), inner) for number, inner in enumerate(found))
    for key in _SINGLE:
        if isinstance(found := schema.get(key), Mapping):
            yield (key,), found


def at_pointer(schema: Schema, pointer: str) -> Any:
    """The part of ``schema`` that ``#/…`` points to; None if there is none."""
    found: Any = schema
    for step in pointer.lstrip("#").split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping):
            found = found.get(name)
        elif isinstance(found, list | tuple) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found


class _Writer:
    def __init__(self, root: Schema) -> None:
        self._root = root
        self._left = _MOST_PARTS
        self.recursive = False

    def schema(self, schema: Any, within: tuple[str, ...]) -> Any:
        """``within``: the references that led here."""
        if not isinstance(schema, Mapping):
            return schema  # true, false
        self._left -= 1
        if self._left < 0:
            raise ValueError("the schema is too large once its references are written out")
        made = {k: v for k, v in schema.items() if k not in ("$ref", "allOf", *_DEFINITIONS)}
        for key in _MAPS:
            if isinstance(made.get(key), Mapping):
                made[key] = {n: self.schema(s, within) for n, s in made[key].items()}
        for key in _LISTS:
            if isinstance(made.get(key), list | tuple):
                made[key] = [self.schema(s, within) for s in made[key]]
        for key in _SINGLE:
            if key in made:
                made[key] = self.schema(made[key], within)
        if "type" not in made and "$ref" not in schema and "allOf" not in schema:
            made |= _type_of_values(made)
        parts = [self.schema(part, within) for part in schema.get("allOf", ())]
        if "$ref" in schema:
            parts.insert(0, self._target(schema["$ref"], within))
        return _all_of(made, parts) if parts else made

    def _target(self, pointer: str, within: tuple[str, ...]) -> Any:
        found = at_pointer(self._root, pointer)
        if pointer in within or pointer == "#" or not isinstance(found, Mapping):
            self.recursive = True  # or an anchor, which only the validator knows
            return {"$ref": pointer}
        return self.schema(found, (*within, pointer))


def _type_of_values(schema: Schema) -> dict[str, str]:
    """The common type of all values of an ``enum`` or ``const``, unless it is text."""
    values = schema["enum"] if "enum" in schema else [schema["const"]] if "const" in schema else []
    kinds = {_TYPES.get(type(value), "") for value in values}
    return {"type": kinds.pop()} if len(kinds) == 1 and "" not in kinds else {}


def _all_of(own: dict[str, Any], parts: list[Any]) -> dict[str, Any]:
    merged: Schema = own
    left: list[Any] = []
    for part in parts:
        try:
            merged = _both(merged, part)
        except _NoMerge:
            left.append(part)
    if left and merged.keys() <= set(_NOTES) and len(left) == 1:
        return {**left[0], **merged}
    return dict(merged) | ({"allOf": left} if left else {})


def _both(one: Schema, other: Any) -> Schema:
    """The conjunction of both. ``one``'s annotations win. Raises _NoMerge, ValueError."""
    if not isinstance(other, Mapping):
        if other is True:
            return one
        raise ValueError("allOf: one of its parts is false, so nothing meets it")
    if "$ref" in other and one.keys() - set(_NOTES):
        raise _NoMerge
    for open_, closed in ((one, other), (other, one)):
        extra = open_.get("properties", {}).keys() - closed.get("properties", {}).keys()
        if extra and closed.get("additionalProperties", True) is False:
            raise ValueError(
                f"allOf: one part forbids {min(extra)!r} (additionalProperties: false), which "
                "another has: leave additionalProperties out"
            )
    made = dict(one)
    for key, value in other.items():
        made[key] = _of_both(key, one[key], value) if key in one else value
    return made


def _of_both(key: str, a: Any, b: Any) -> Any:
    if a == b and type(a) is type(b):
        return a
    if key in _NOTES:
        return a
    if key in _LARGEST:
        return max(a, b)
    if key in _SMALLEST:
        return min(a, b)
    if key == "type":
        return _common_type(a, b)
    if key == "enum":
        return _any_left([v for v in a if any(v == w and type(v) is type(w) for w in b)], key)
    if key == "required":
        return list(dict.fromkeys([*a, *b]))
    if key == "properties":
        both = {n: _both(a[n], b[n]) if n in b else s for n, s in a.items()}
        return both | {n: s for n, s in b.items() if n not in a}
    if key == "items" or (key == "additionalProperties" and isinstance(a, Mapping)):
        return _both(a, b) if isinstance(a, Mapping) and isinstance(b, Mapping) else False
    if key == "additionalProperties":
        return b if a is True else False
    if key == "uniqueItems":
        return a or b
    raise _NoMerge


def _common_type(a: Any, b: Any) -> Any:
    first, second = ([t] if isinstance(t, str) else list(t) for t in (a, b))
    common = [t for t in first if t in second or (t == "integer" and "number" in second)]
    common += [t for t in second if t == "integer" and "number" in first and t not in common]
    _any_left(common, "type")
    return common[0] if len(common) == 1 else common


def _any_left(values: list[Any], key: str) -> list[Any]:
    if not values:
        raise ValueError(f"allOf: its parts have no {key} in common, so nothing meets it")
    return values
