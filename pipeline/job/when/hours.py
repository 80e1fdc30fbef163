"""In which hours of the day a job may use the cards: windows on the wall clock.

Daylight saving follows that clock: in the night that skips an hour, a window is shorter by its part
of that hour; in the night that repeats an hour, it is longer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

from pipeline.job.when.cron import zone_of

_WINDOW = re.compile(r"(\d{1,2}):(\d{2})\s*[-–]\s*(\d{1,2}):(\d{2})")
_DAY_MINUTES = 24 * 60
_LOOK_AHEAD_DAYS = 3  # within these every window of a day has opened and closed
_LONGEST_DAYS = 366
_MEND = 'give windows of the day, hours and minutes: "23:00-07:00", or "23:00-07:00, 12:00-13:00"'


@dataclass(frozen=True)
class Hours:
    """``windows``: minutes of the day, (begin, end) each; a window whose end is before its begin
    goes over midnight. ``timezone``: of their clock (None: this machine's)."""

    windows: tuple[tuple[int, int], ...]
    timezone: str | None = None

    @cached_property
    def _zone(self) -> ZoneInfo | None:
        return None if self.timezone is None else ZoneInfo(self.timezone)

    def open(self, moment: datetime) -> bool:
        """Whether ``moment`` (with a zone) lies in one of the windows."""
        wall = self._wall(moment)
        minute = 60 * wall.hour + wall.minute
        return any(
            begin <= minute < end if begin < end else minute >= begin or minute < end
            for begin, end in self.windows
        )

    def next_change(self, moment: datetime) -> datetime | None:
        """When the hours begin or end next after ``moment``, in UTC; None: never."""
        now, today = self.open(moment), self._wall(moment).date()
        for days in range(-1, _LOOK_AHEAD_DAYS):
            for at in self._candidates(today + timedelta(days=days)):
                if at > moment and self.open(at) != now:
                    return at
        return None

    def when_done(self, begins: datetime, ready_seconds: float, seconds: float) -> datetime | None:
        """When ``seconds`` of work are done if it ``begins`` then, and engines need
        ``ready_seconds`` to load at the beginning of each window; None: not within a year."""
        moment, left = begins, seconds
        while left > 0 and moment - begins < timedelta(days=_LONGEST_DAYS):
            change = self.next_change(moment)
            if self.open(moment):
                needed = timedelta(seconds=ready_seconds + left)
                if change is None or moment + needed <= change:
                    return moment + needed
                left -= max(0.0, (change - moment).total_seconds() - ready_seconds)
            if change is None:
                return None
            moment = change
        return None if left > 0 else moment

    def wall_clock(self, moment: datetime) -> str:
        """The time of day as text."""
        return f"{self._wall(moment):%H:%M}"

    def day_and_time(self, moment: datetime) -> str:
        """The time of day and the day: "on 2 June at 03:40"."""
        wall = self._wall(moment)
        return f"on {wall.day} {wall:%B} at {wall:%H:%M}"

    def _wall(self, moment: datetime) -> datetime:
        return moment.astimezone(self._zone).replace(tzinfo=None)

    def _utc(self, wall: datetime) -> datetime:
        return wall.replace(tzinfo=self._zone).astimezone(UTC)

    def _candidates(self, day: date) -> Iterator[datetime]:
        """Moments of a day, in order, when the hours may begin or end."""
        begin = self._utc(datetime.combine(day, time()))
        end = self._utc(datetime.combine(day + timedelta(days=1), time()))
        if end - begin != timedelta(days=1):  # the clock changes on this day: check every minute
            minutes: Sequence[int] = range(int((end - begin).total_seconds()) // 60)
        else:
            minutes = sorted({edge % _DAY_MINUTES for window in self.windows for edge in window})
        for minute in minutes:
            yield begin + timedelta(minutes=minute)


def parse_hours(text: str, timezone: str | None = None) -> Hours:
    """The windows of "23:00-07:00, 12:00-13:00". Raises ValueError if it has another form."""
    windows = tuple(_window(part.strip()) for part in text.split(","))
    if timezone is not None:
        zone_of(timezone)
    return Hours(windows, timezone)


def check_hours(value: object) -> str:
    """The hours as text, whatever YAML read, also a list of windows. Raises ValueError."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    parse_hours(text)
    return text


def _window(text: str) -> tuple[int, int]:
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no window of the day: {_MEND}")
    begin, end = (_minute(found[i], found[i + 1], text) for i in (1, 3))
    if begin % _DAY_MINUTES == end % _DAY_MINUTES:
        raise ValueError(
            f"{text} begins and ends at the same time: leave hours away to work all day, or {_MEND}"
        )
    return begin % _DAY_MINUTES, end


def _minute(hour: str, minute: str, text: str) -> int:
    total = 60 * int(hour) + int(minute)
    if int(minute) >= 60 or total > _DAY_MINUTES:
        raise ValueError(f"{hour}:{minute} in {text} is no time of the day: {_MEND}")
    return total
