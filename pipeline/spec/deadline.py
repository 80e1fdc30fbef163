"""When a job has to be done: at a time, or so long after it began."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_DAYS = 3660
_MEND = "give a time with its zone, 2026-12-01T06:00:00+01:00, or a duration: 90m, 8h, 2d"


def check_deadline(value: object) -> object:
    """Raise ValueError for what is no deadline. A time as YAML reads it is a text then."""
    if isinstance(value, datetime):
        value = value.isoformat()
    if isinstance(value, str):
        deadline_at(value, datetime.now(UTC))
    return value


def deadline_at(text: str, began: datetime) -> datetime:
    """The time that ``text`` means for a job that ``began`` then. Raises ValueError."""
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
    return found
