"""When a schedule's runs are due: a cron line and a time zone, with daylight saving.

A line with fixed minute and hour follows the wall clock. In spring, runs in the hour that does not
exist come right after it; in autumn, the hour that comes twice counts only the first time. A line
with ``*`` in either of them follows elapsed time. Debian's cron does the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = 5
_TURN = timedelta(hours=3)  # no clock change is larger


def zone_of(timezone: str) -> ZoneInfo:
    """The time zone of that name. Raises ValueError."""
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"timezone {timezone!r} is unknown; write it like Europe/Berlin") from None


@dataclass(frozen=True)
class Cron:
    """A cron line (five fields, or a macro like ``@daily``) on the clock of a time zone.

    Raises ValueError if it is no cron line or never due, and for an unknown zone.
    """

    line: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        zone = zone_of(self.timezone)
        fields = self._fields.split()
        if len(fields) != _FIELDS:
            raise ValueError(
                f"cron line {self.line!r} has {len(fields)} fields, not {_FIELDS}: "
                "minute hour day-of-month month day-of-week"
            )
        try:
            next(CronSim(self._fields, datetime.now(zone)))
        except CronSimError as e:
            raise ValueError(f"cron line {self.line!r}: {str(e).lower()}") from None
        except StopIteration:
            raise ValueError(f"cron line {self.line!r}: there is no such day") from None

    @cached_property
    def _zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def _fields(self) -> str:
        return _MACROS.get(self.line.strip().lower(), self.line)

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The due times later than ``moment`` (with a time zone), in UTC, without end."""
        last = moment.astimezone(UTC)
        # earlier: in the second of two equal hours CronSim would continue from the first
        for due in CronSim(self._fields, (last - _TURN).astimezone(self._zone)):
            when = due.astimezone(UTC)
            if when > last:
                last = when
                yield when

    def next_times(self, moment: datetime, number: int) -> list[datetime]:
        """The next ``number`` due times after ``moment``, on the zone's clock."""
        return [when.astimezone(self._zone) for when in islice(self.after(moment), number)]
