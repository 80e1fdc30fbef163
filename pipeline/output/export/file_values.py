"""Values in the form of files for other programs: dates, times and durations in ISO form, binary
data that is not UTF-8 text in base64. Pure."""

from __future__ import annotations

import base64
import datetime
import math
from decimal import Decimal
from typing import Any

from pipeline.job.template.json_text import json_text


def as_json_value(value: Any) -> Any:
    """The value for JSON: NaN and the infinities are null, other types that JSON lacks are text."""
    if isinstance(value, dict):
        return {cell_text(key): as_json_value(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json_value(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | Decimal):
        return value
    return cell_text(value)


def json_line(value: Any) -> str:
    """The value as JSON, on one line."""
    return json_text(as_json_value(value), ensure_ascii=False, allow_nan=False)


def cell_text(value: Any) -> str:
    """The value as the text of a cell: JSON for lists and structs, without quotes for the rest."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return _iso_duration(value)
    if isinstance(value, dict | list | tuple | bool | Decimal) or value is None:
        return json_line(value)
    return str(value)


def _iso_duration(value: datetime.timedelta) -> str:
    """In days and seconds: P1DT2.5S."""
    sign, length = ("-", -value) if value < datetime.timedelta() else ("", value)
    nanoseconds = length.microseconds * 1000 + int(getattr(length, "nanoseconds", 0))  # of pandas
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    return f"{sign}P{length.days}DT{length.seconds}{fraction}S"
