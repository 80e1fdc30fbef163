"""Whether an output value is the ``input.cast`` of a file's value, judged by Python's own types and
not by Arrow's casts, which made it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from pipeline.input.json_reading import Number, is_text_of

_TRUE, _FALSE = ("true", "1"), ("false", "0")


def says_cast(value: Any, told: Any) -> bool:
    """``value``: of the output. ``told``: of the file, from JSON or Parquet, or a cell's text."""
    if value is None or told is None:
        return value is told
    try:
        if isinstance(value, str):
            return is_text_of(value, told.isoformat() if isinstance(told, date) else _in_json(told))
        if isinstance(value, bool):
            return str(told).lower() in (_TRUE if value else _FALSE)
        if isinstance(value, int):
            return value == Decimal(str(told))
        if isinstance(value, float):
            if math.isinf(value) and any(map(str.isdigit, str(told))):
                return False  # it is too large
            return value == float(told) or (value != value and str(told).lower() == "nan")
        if isinstance(value, datetime):
            return value.replace(tzinfo=None) == _moment(told).replace(tzinfo=None)
        if isinstance(value, date):
            return value == _moment(told).date()
    except (ValueError, TypeError, ArithmeticError):
        pass
    return False


def _in_json(told: Any) -> Any:
    """A value from Parquet as JSON would have it."""
    if isinstance(told, Mapping):
        return {name: _in_json(one) for name, one in told.items()}
    if isinstance(told, list | tuple):
        return [_in_json(one) for one in told]
    if isinstance(told, Decimal):
        return Number(text) if "." in (text := f"{told:f}") else int(text)
    if isinstance(told, float):
        return Number(repr(told)) if math.isfinite(told) else told
    return told if told is None or isinstance(told, str | int | Number) else str(told)


def _moment(told: Any) -> datetime:
    if isinstance(told, datetime):
        return told
    if isinstance(told, date):
        return datetime(told.year, told.month, told.day)
    return datetime.fromisoformat(told)
