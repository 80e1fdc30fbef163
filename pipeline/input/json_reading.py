"""Whether a value equals a JSON value, judged by the digits in the text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True)
class Number:
    """A number with a fraction or an exponent, as the file writes it."""

    text: str

    def __str__(self) -> str:
        return self.text

    def __float__(self) -> float:
        return float(self.text)


_lenient = json.JSONDecoder(parse_float=Number)
_strict = msgspec.json.Decoder(float_hook=Number).decode


def value_at(text: str, at: int) -> tuple[Any, int]:
    """The JSON value that begins at ``at``, and its end. Raises ValueError, RecursionError."""
    return _lenient.raw_decode(text, at)


def value_of(line: bytes) -> Any:
    """Raises ValueError, RecursionError if it is not JSON."""
    try:
        return _strict(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _lenient.decode(line.decode("utf-8-sig"))


def says_json(value: Any, told: Any) -> bool:
    """Whether an output value equals the JSON value: itself, or as text if its column is text."""
    if value is None or told is None:
        return value is told
    if isinstance(value, str):
        return is_text_of(value, told)
    if isinstance(told, bool) or isinstance(value, bool):
        return bool(value is told)
    if isinstance(told, int | float | Number):
        return _same_number(value, told)
    if isinstance(told, list):
        return (
            isinstance(value, list) and len(value) == len(told) and all(map(says_json, value, told))
        )
    if isinstance(told, dict) and isinstance(value, Mapping):
        return told.keys() <= value.keys() and all(
            says_json(one, told.get(name)) for name, one in value.items()
        )
    return False


def is_text_of(text: str, told: Any) -> bool:
    """Whether ``text`` represents a JSON value: text itself, anything else as JSON."""
    return text == (told if isinstance(told, str) else _in_json(told))


def _in_json(told: Any) -> str:
    if isinstance(told, dict):
        pairs = (f"{_in_json(name)}: {_in_json(one)}" for name, one in told.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(told, list):
        return "[" + ", ".join(map(_in_json, told)) + "]"
    return told.text if isinstance(told, Number) else json.dumps(told, ensure_ascii=False)


def _same_number(value: Any, told: int | float | Number) -> bool:
    if isinstance(value, float):
        number = told if isinstance(told, int) else float(told)
        return value == number or (value != value and number != number)  # NaN
    exact = Decimal(told.text) if isinstance(told, Number) else told
    return isinstance(value, int | Decimal) and bool(value == exact)
