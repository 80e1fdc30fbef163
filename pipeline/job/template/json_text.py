"""Values as JSON that keeps numbers as they were written: 2.50, not 2.5. Pure."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from decimal import Decimal
from typing import Any


def number_text(value: Any) -> str | None:
    """The original text of a number that keeps it; None for any other value."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value) if isinstance(value, float) and type(value) is not float else None


def json_text(
    value: Any, *, indent: int | None = None, sort_keys: bool = False, **options: Any
) -> str:
    """As ``json.dumps``, except for such numbers. ``options``: of ``json.dumps``."""
    if (text := number_text(value)) is not None:
        return text
    if not _tells_numbers(value):
        return json.dumps(value, indent=indent, sort_keys=sort_keys, **options)

    def inner(one: Any) -> str:
        return json_text(one, indent=indent, sort_keys=sort_keys, **options)

    if isinstance(value, dict):
        begin, end = "{}"
        keys = sorted(value) if sort_keys else value
        names = (json.dumps({key: 0}, **options)[1:-4] for key in keys)  # {"key": 0}
        parts = [f"{name}: {inner(value[key])}" for name, key in zip(names, keys, strict=True)]
    else:
        begin, end = "[]"
        parts = [inner(one) for one in value]
    if indent is None:
        return begin + ", ".join(parts) + end
    lines = ",\n".join(parts).replace("\n", "\n" + " " * indent)  # JSON texts have no line breaks
    return f"{begin}\n{' ' * indent}{lines}\n{end}"


def _tells_numbers(value: Any) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return number_text(value) is not None
    return any(map(_tells_numbers, value))


def plain_json(value: Any) -> Any:
    """``value`` with only JSON's types: bytes that are no text in base64, times in ISO form, NaN
    and infinity as null, decimals with more digits than a float as text."""
    if isinstance(value, dict):
        return {str(key): plain_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(inner) for inner in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return b64encode(value).decode()
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Decimal) and value.is_finite() and len(value.as_tuple().digits) <= 15:
        return float(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
