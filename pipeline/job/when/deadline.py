"""The deadline of a job: a time, or a duration from its start."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_DAYS = 3660
_MEND = "give a time with its zone, 2026-12-01T06:00:00+01:00, or a duration: 90m, 8h, 2d"


def check_deadline(value: object) -> str:
    """The deadline as text, whatever YAML read: a time, a date, or a number for 8:00. Raises
    ValueError if it is no deadline."""
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    deadline_at(text, datetime.now(UTC))
    return text


def deadline_at(text: str, began: datetime) -> datetime:
    """The time that ``text`` means for a job that started at ``began``. Raises ValueError."""
    lasts = _DURATION.fullmatch(text.strip())
    if lasts is not None:
        seconds = float(lasts[1]) * _SECONDS[lasts[2]]
        if not 0 < seconds <= _LONGEST_DAYS * 86_400:
            raise ValueError(f"{text} is no deadline: {_MEND}")
        return began + timedelta(seconds=seconds)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text} is no deadline: {_MEND}") from None
    if found.tzinfo is None:
        raise ValueError(f"{text} has no time zone: {_MEND}")
    if found - began > timedelta(days=_LONGEST_DAYS):
        raise ValueError(f"{text} is too far away: {_MEND}")
    return found
