"""How a row's value is written into a prompt: the same in both template syntaxes."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

from pipeline.errors import RowError, RowErrorType
from pipeline.job.template.json_text import json_text

# row values that Python's ``str`` would print in another way: True, None, ['text'], 1E+2
_PRINTED_AS_TEXT = (bool, type(None), dict, list, Decimal, bytes, datetime.date, datetime.time)


def as_text(value: Any) -> str:
    """How a value appears in a prompt: text as it is, dates in ISO form, the rest as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise RowError(RowErrorType.INVALID_ROW, "a binary field is not UTF-8 text") from None
    try:
        return json_text(value, ensure_ascii=False, default=str)
    except (ValueError, TypeError, RecursionError) as e:  # bytes as keys, endless depth
        raise RowError(
            RowErrorType.INVALID_ROW, f"a field cannot be written as JSON: {e}"
        ) from None


def as_shown(value: Any) -> str:
    """As ``as_text``, for display: a value that no prompt can contain is described, not refused."""
    try:
        return as_text(value)
    except RowError:
        return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)


def as_printed(value: Any) -> str:
    """How Jinja prints a value. Raises RowError (InvalidRow) if a field cannot be written.

    A row's value is printed as by ``as_text``; objects that only a template can create (ranges,
    generators, undefined names) are printed as by Jinja.
    """
    return as_text(value) if isinstance(value, _PRINTED_AS_TEXT) else str(value)
