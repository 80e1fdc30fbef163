"""A JSON schema's properties as typed Arrow columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

_SCALARS = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
}


def arrow_type(schema: Mapping[str, Any]) -> pa.DataType:
    """The column type for one property; JSON text if Arrow has no type for it."""
    schema = _without_null(schema)
    kind = _kind(schema)
    if kind in _SCALARS:
        return _SCALARS[kind]
    if kind == "array" and isinstance(schema.get("items"), dict):
        return pa.list_(arrow_type(schema["items"]))
    if kind == "object" and schema.get("properties"):
        return pa.struct([(n, arrow_type(s)) for n, s in schema["properties"].items()])
    return pa.string()


def coerce(value: Any, schema: Mapping[str, Any]) -> Any:
    """``value``, valid under ``schema``, as ``pa.array`` needs it for ``arrow_type(schema)``."""
    if value is None:
        return None
    schema = _without_null(schema)
    kind = _kind(schema)
    if kind in ("integer", "number"):
        try:
            number = int(value) if kind == "integer" else float(value)
        except OverflowError:  # a model that repeats digits writes such numbers
            return None
        return number if kind == "number" or -(2**63) <= number < 2**63 else None
    if kind in _SCALARS:
        return value
    if kind == "array" and isinstance(schema.get("items"), dict):
        return [coerce(v, schema["items"]) for v in value]
    if kind == "object" and schema.get("properties"):
        return {n: coerce(value.get(n), s) for n, s in schema["properties"].items()}
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _without_null(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """``anyOf: [X, null]`` is X: every column may hold null."""
    others = [s for s in schema.get("anyOf", ()) if not _is_null(s)]
    return others[0] if len(others) == 1 and isinstance(others[0], Mapping) else schema


def _is_null(schema: Any) -> bool:
    return isinstance(schema, Mapping) and schema.get("type") == "null"


def _kind(schema: Mapping[str, Any]) -> str | None:
    """The one type a schema allows besides null; None if it allows several or says nothing."""
    named = schema.get("type")
    kinds = [named] if isinstance(named, str) else list(named or [])
    if not kinds and "enum" in schema:
        kinds = ["string"] if all(isinstance(v, str) for v in schema["enum"]) else []
    kinds = [k for k in kinds if k != "null"]
    return kinds[0] if len(kinds) == 1 else None
