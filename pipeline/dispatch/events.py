"""The dispatcher's events and instructions: all that it and the workers say to each other.

Every event of a worker has a time, ``at``: seconds on any one clock that never runs backwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class UnitRange(NamedTuple):
    """Rows ``start``..``stop`` of the unit of that number, counted from the unit's first row.

    The dispatcher counts by units and knows no shards (everyone else says ``RowRange``): a unit
    that nobody has touched costs it a byte, and a row's state is found by one look into a list.
    ``driver.coordinator.unit_index`` translates.
    """

    unit: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Joined:
    """A worker will come, or is there. ``rate``: expected rows per second (of mean cost) of its
    card."""

    worker: str
    at: float
    card: str = ""
    rate: float = 1.0


@dataclass(frozen=True, slots=True)
class LeaseRequested:
    """A worker has room for another lease."""

    worker: str
    at: float


@dataclass(frozen=True, slots=True)
class Reported:
    """A heartbeat, with running totals since the worker joined. ``busy_seconds``: how long its
    engine worked; ``active``: rows it has taken and not finished; ``waiting``: those of them that
    its engine has not begun; ``flights``: rows that the engine may have until the next report
    (None: not known)."""

    worker: str
    at: float
    rows: int = 0
    busy_seconds: float = 0.0
    tokens: int = 0
    active: int = 0
    flights: tuple[UnitRange, ...] | None = None
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Resumed:
    """A worker that was there before the dispatcher was: it holds ``spans``. ``rate``: as in
    ``Joined``."""

    worker: str
    at: float
    rate: float
    spans: tuple[UnitRange, ...] = ()


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The answer to ``GiveUp``: of the rows leased from ``kept.start`` on, the worker keeps
    ``kept`` (perhaps no row) and will never start the rest. May be sent twice."""

    worker: str
    at: float
    kept: UnitRange


@dataclass(frozen=True, slots=True)
class Committed:
    """The rows have their result, from whichever worker. May be sent twice."""

    span: UnitRange


@dataclass(frozen=True, slots=True)
class Returned:
    """A worker gives rows back unworked, without being asked."""

    worker: str
    at: float
    spans: tuple[UnitRange, ...]


class Blame(Enum):
    """Whether rows that an engine had may have killed it."""

    TOLD = "perhaps: the worker itself said that its engine failed, so nobody killed it"
    UNTOLD = "perhaps: it ended without a word, as those do that somebody kills"
    NO_ROW = "no: it is known what ended it"


class Gain(Enum):
    """What a lost worker had achieved."""

    ROWS = "rows that it had held got their result"
    SEARCH = "its end brought the search for a row that kills further"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker was lost; ``why`` is the reason. Its rows become pending again. ``flights``: the
    rows that its engine had (None: as it reported last)."""

    worker: str
    at: float | None = None
    why: str = ""
    flights: tuple[UnitRange, ...] | None = None
    blame: Blame = Blame.UNTOLD


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passes: the leases of workers that were silent for too long expire."""

    at: float


Event = Joined | Resumed | LeaseRequested | Reported | GaveUp | Committed | Returned | Lost | Ticked


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease. ``losses``: how many engines died with one of its rows in them, at most; ``why`` the
    last one died. ``quarantined``: the rows become error rows, no engine may see them again."""

    worker: str
    spans: tuple[UnitRange, ...]
    losses: int = 0
    quarantined: bool = False
    why: str = ""

    @property
    def rows(self) -> int:
        return sum(span.rows for span in self.spans)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing for the worker now: other workers have the rest, and may still fail or give up
    rows."""

    worker: str


@dataclass(frozen=True, slots=True)
class Done:
    """Every row is committed."""

    worker: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Of the leased rows ``span`` the worker shall give up those from ``keep`` on that it has not
    started. It answers with ``GaveUp``, and is asked again at every heartbeat until then."""

    worker: str
    span: UnitRange
    keep: int


@dataclass(frozen=True, slots=True)
class Expired:
    """The worker was silent for too long: it no longer holds ``spans``."""

    worker: str
    spans: tuple[UnitRange, ...]


Instruction = Grant | Wait | Done | GiveUp | Expired


class NoLease(Enum):
    """Why a worker that asked for a lease gets none."""

    WAIT = "wait"
    DONE = "done"
    STOP = "stop"  # the run is stopping: there will be no more
