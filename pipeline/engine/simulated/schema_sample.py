"""A small value that a JSON schema allows, for the simulated engine."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry

from pipeline.engine.simulated.regex_sample import sample_match
from pipeline.job.answer.plain_schema import at_pointer

_TRIES = 50
_DEEP = 6  # references within references: from there on the shortest
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_FORMATS: Mapping[str, Callable[[random.Random], str]] = {
    "date": lambda dice: f"20{dice.randint(10, 29)}-{dice.randint(1, 12):02}-07",
    "time": lambda dice: f"{dice.randint(10, 23)}:30:00Z",
    "date-time": lambda dice: f"20{dice.randint(10, 29)}-03-07T10:30:00Z",
    "duration": lambda dice: f"P{dice.randint(1, 9)}D",
    "email": lambda dice: f"{dice.choice(_LETTERS)}@example.org",
    "hostname": lambda dice: f"{dice.choice(_LETTERS)}.example.org",
    "ipv4": lambda dice: f"192.0.2.{dice.randint(1, 254)}",
    "ipv6": lambda dice: f"2001:db8::{dice.randint(1, 9)}",
    "uri": lambda dice: f"https://example.org/{dice.choice(_LETTERS)}",
    "uuid": lambda dice: f"{dice.getrandbits(32):08x}-0000-4000-8000-000000000000",
}


class NoSample(ValueError):
    """None of the values tried is one that the schema allows."""


class SchemaSampler:
    """Draws values of a schema as ``plain_schema`` writes it out."""

    def __init__(self, schema: Mapping[str, Any], words: list[str]) -> None:
        self._root = schema
        self._words = words
        self._validator = Draft202012Validator(schema, registry=Registry())

    def sample(self, dice: random.Random) -> Any:
        """Raises NoSample."""
        wrong = None
        for _ in range(_TRIES):
            value = self._value(self._root, dice, 0)
            wrong = next(iter(self._validator.iter_errors(value)), None)
            if wrong is None:
                return value
        place = ".".join(str(step) for step in wrong.absolute_schema_path) if wrong else ""
        raise NoSample(place)

    def _value(self, schema: Any, dice: random.Random, depth: int) -> Any:
        if not isinstance(schema, Mapping):
            return dice.choice(self._words)
        if "$ref" in schema:
            return self._value(at_pointer(self._root, schema["$ref"]), dice, depth + 1)
        if "enum" in schema:
            return dice.choice(schema["enum"])
        if "const" in schema:
            return schema["const"]
        for union in ("anyOf", "oneOf"):
            if union in schema:
                return self._one_of(schema, union, dice, depth)
        if parts := schema.get("allOf"):
            together = {k: v for k, v in schema.items() if k != "allOf"}
            for part in parts:
                together = {**part, **together}
            return self._value(together, dice, depth)
        kind = schema.get("type")
        kind = dice.choice(kind) if isinstance(kind, list) else kind
        if kind in ("integer", "number"):
            return _number(schema, kind, dice)
        if kind == "boolean":
            return dice.random() < 0.5
        if kind == "array":
            return self._array(schema, dice, depth)
        if kind == "object":
            return self._object(schema, dice, depth)
        return None if kind == "null" else self._text(schema, dice)

    def _one_of(
        self, schema: Mapping[str, Any], union: str, dice: random.Random, depth: int
    ) -> Any:
        parts = schema[union]
        if depth > _DEEP:
            parts = [p for p in parts if "$ref" not in json.dumps(p)] or parts
        chosen = dice.choice(parts)
        rest = {k: v for k, v in schema.items() if k != union}
        return self._value({**rest, **chosen} if "$ref" not in chosen else chosen, dice, depth)

    def _array(self, schema: Mapping[str, Any], dice: random.Random, depth: int) -> list[Any]:
        first = [self._value(s, dice, depth) for s in schema.get("prefixItems", ())]
        least = int(schema.get("minItems", 0))
        count = max(least, min(1, int(schema.get("maxItems", 1)))) if depth <= _DEEP else least
        each = schema.get("items", {"type": "string"})
        values = list(first)
        tries = 0
        while len(values) < count and each is not False and tries < _TRIES + count:
            tries += 1
            value = self._value(each, dice, depth)
            if not (schema.get("uniqueItems") and value in values):
                values.append(value)
        if "contains" in schema:
            values.append(self._value(schema["contains"], dice, depth))
        return values

    def _object(self, schema: Mapping[str, Any], dice: random.Random, depth: int) -> dict[str, Any]:
        needed = schema.get("required", ())
        known = schema.get("properties", {})
        made = {
            name: self._value(inner, dice, depth)
            for name, inner in known.items()
            if name in needed or depth <= _DEEP
        }
        extra = schema.get("additionalProperties", {})
        for number in range(int(schema.get("minProperties", 0)) - len(made)):
            made[f"key{number}"] = self._value(extra, dice, depth)
        return made

    def _text(self, schema: Mapping[str, Any], dice: random.Random) -> str:
        if "pattern" in schema:
            return _matching(schema["pattern"], dice)
        if (made := _FORMATS.get(schema.get("format", ""))) is not None:
            return made(dice)
        text = dice.choice(self._words)
        least = int(schema.get("minLength", 0))
        if len(text) < least:
            text += "a" * (least - len(text))
        return text[: int(schema.get("maxLength", len(text)))]


@lru_cache(maxsize=16)
def sampler_of(schema: str, words: tuple[str, ...]) -> SchemaSampler:
    """For a schema as JSON."""
    return SchemaSampler(json.loads(schema), list(words))


def _matching(pattern: str, dice: random.Random) -> str:
    """Text in which ``pattern`` is found."""
    bare = pattern.removeprefix("^").removesuffix("$")
    try:
        return sample_match(bare, dice) or sample_match(pattern, dice)
    except re.error:
        return ""


def _number(schema: Mapping[str, Any], kind: str, dice: random.Random) -> float:
    low, low_open = _bound(schema, "minimum", "exclusiveMinimum", max)
    high, high_open = _bound(schema, "maximum", "exclusiveMaximum", min)
    step = schema.get("multipleOf", 1 if kind == "integer" else None)
    if low is None:
        low = min(0, high if high is not None else 0)
    if high is None:
        high = low + 10 * (step or 1)
    if step is not None:
        first, last = math.ceil(low / step), math.floor(high / step)
        first += low_open and first * step == low
        last -= high_open and last * step == high
        value = dice.randint(first, max(first, last)) * step
        return int(value) if kind == "integer" else value
    drawn = min(max(round(dice.uniform(low, high), 3), low), high)
    at_end = (low_open and drawn == low) or (high_open and drawn == high)
    return float((low + high) / 2 if at_end else drawn)


def _bound(
    schema: Mapping[str, Any], closed: str, open_: str, tighter: Callable[[Any, Any], Any]
) -> tuple[Any, bool]:
    """The bound, and whether it is itself excluded."""
    at, beyond = schema.get(closed), schema.get(open_)
    if beyond is None or (at is not None and tighter(at, beyond) == at and at != beyond):
        return at, False
    return beyond, True
