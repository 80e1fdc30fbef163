"""pydantic's validation errors in words for people who write job files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SHOWN = 60  # characters of a wrong value
_WANTED = {
    "tuple_type": "give a list",
    "list_type": "give a list",
    "dict_type": "give a mapping, as {{key: value}}",
    "model_type": "give a mapping, as {{key: value}}",
    "model_attributes_type": "give a mapping, as {{key: value}}",
    "string_type": "give text",
    "int_type": "give a whole number",
    "int_parsing": "give a whole number",
    "int_from_float": "give a whole number",
    "float_type": "give a number",
    "float_parsing": "give a number",
    "bool_type": "give true or false",
    "bool_parsing": "give true or false",
    "finite_number": "give a finite number",
    "greater_than": "give more than {gt}",
    "greater_than_equal": "give at least {ge}",
    "less_than": "give less than {lt}",
    "less_than_equal": "give at most {le}",
    "string_too_short": "give at least {min_length} characters",
    "string_too_long": "give at most {max_length} characters",
    "string_pattern_mismatch": "give text of the form {pattern}",
    "too_short": "give {min_length} entries or more",
    "too_long": "give {max_length} entries or fewer",
    "literal_error": "give {expected}",
    "enum": "give {expected}",
}


def in_words(problem: Mapping[str, Any]) -> str:
    """One line for an entry of ``ValidationError.errors()``, without the place."""
    wanted = _WANTED.get(problem["type"])
    if wanted is None:
        return str(problem["msg"]).removeprefix("Value error, ")
    counts = problem["type"] in ("too_short", "too_long")
    got = f"{problem['ctx']['actual_length']}" if counts else shown(problem["input"])
    limits = {k: f"{v:g}" if isinstance(v, float) else v for k, v in problem.get("ctx", {}).items()}
    return f"{wanted.format(**limits)}, not {got}"


def shown(value: object) -> str:
    """A wrong value, shortened if it is long."""
    text = "null" if value is None else repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
