"""What a schedule must do now. Pure: times in, a decision out; with the meaning of Kubernetes.

Of all due times since the last one that was dealt with, only the newest is run; the others are
missed. The newest is missed too if it is longer ago than ``startingDeadlineSeconds``. While a run
is under way, ``Forbid`` lets the next one wait (and miss its deadline), ``Replace`` ends the old
one, ``Allow`` runs both.

If the clock is set back, no time comes twice: only times later than the last one count.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

from pipeline.humanize import duration
from pipeline.job.when.cron import Cron
from pipeline.job.when.schedule import ConcurrencyPolicy

_COUNTED = 100  # missed times at most


@dataclass(frozen=True)
class Decision:
    """``start``: the time whose run begins now. ``replaces``: the run under way ends first.
    ``missed``: times that will not be run (at most the newest hundred)."""

    start: datetime | None
    replaces: bool = False
    missed: tuple[datetime, ...] = ()
    why_missed: str = "another time came before this one could begin"


def decide(
    cron: Cron,
    policy: ConcurrencyPolicy,
    deadline_seconds: float | None,
    *,
    last: datetime,
    now: datetime,
    under_way: bool,
) -> Decision:
    """``last``: the last time that was dealt with, or when the schedule was made."""
    passed = _passed(cron, last, now)
    if not passed:
        return Decision(None)
    *missed, newest = passed
    if deadline_seconds is not None and newest + timedelta(seconds=deadline_seconds) < now:
        late = f"it could not begin within {duration(deadline_seconds)} of its time"
        return Decision(None, False, tuple(passed), late)
    if under_way and policy == "Forbid":
        return Decision(None, False, tuple(missed))
    return Decision(newest, under_way and policy == "Replace", tuple(missed))


def _passed(cron: Cron, last: datetime, now: datetime) -> list[datetime]:
    """The due times in (``last``, ``now``], at most the newest hundred."""
    if now <= last:
        return []
    look_back = timedelta(hours=1)
    while True:
        since = max(last, now - look_back)
        times = list(takewhile(lambda t: t <= now, cron.after(since)))
        if len(times) >= _COUNTED or since == last:
            return times[-_COUNTED:]
        look_back *= 4
