"""Kubernetes' schemas as JSON schemas that refuse what they do not know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator


def strict(schema: Any) -> Any:
    """A structural schema (``openAPIV3Schema`` of a CRD) that lets no unknown field through, as
    ``kubectl apply --validate=strict`` does."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items() if not key.startswith("x-")}
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("anyOf", None)
        made["type"] = ["integer", "string"]
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        open_ended = schema.get("x-kubernetes-preserve-unknown-fields", False)
        made.setdefault("additionalProperties", bool(open_ended))
    return made


def complaints(schema: Any, value: Any) -> Iterator[str]:
    """What is wrong with ``value``, place by place."""
    for error in Draft202012Validator(schema).iter_errors(value):
        yield f"{error.json_path}: {error.message[:200]}"
