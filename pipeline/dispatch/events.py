"""What the dispatcher is told and what it answers: the words between it and the workers.

Every event of a worker has a time, ``at``: seconds on any one clock that never runs backwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class UnitRange(NamedTuple):
    """Rows ``start``..``stop`` of the unit of that number, counted from the unit's first row.

    The dispatcher counts by units, and knows of no shards (everyone else says ``RowRange``): a
    unit that nobody has touched costs it a byte, and finding the books of a row is one look into a
    list. ``driver.coordinator.unit_index`` translates.
    """

    unit: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Joined:
    """A worker will come, or is there. ``rate``: rows per second (of mean cost) to expect of its
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
    """A heartbeat, with running totals since the worker joined. ``busy_seconds``: that its
    engine worked; ``active``: rows it has taken and not finished; ``waiting``: those of them that
    its engine has not begun with; ``flights``: rows that the engine may have until the next report
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
    ``kept`` (perhaps no row) and will never start the rest. Harmless to say again."""

    worker: str
    at: float
    kept: UnitRange


@dataclass(frozen=True, slots=True)
class Committed:
    """The rows have their result, whoever made it. Harmless to say again."""

    span: UnitRange


@dataclass(frozen=True, slots=True)
class Returned:
    """A worker gives rows back unworked, of its own accord."""

    worker: str
    at: float
    spans: tuple[UnitRange, ...]


class Blame(Enum):
    """Whether rows that an engine had may have killed it."""

    TOLD = "perhaps: the worker itself said that its engine failed, so nobody killed it"
    UNTOLD = "perhaps: it ended without a word, as those do that somebody kills"
    NO_ROW = "no: it is known what ended it"


class Gain(Enum):
    """What a worker that was lost leaves."""

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
    """Time passes: the leases of workers not heard of for too long expire."""

    at: float


Event = Joined | Resumed | LeaseRequested | Reported | GaveUp | Committed | Returned | Lost | Ticked


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease. ``losses``: the most engines that died with one of its rows in them, the last of
    ``why``. ``quarantined``: the rows become error rows, no engine shall see them again."""

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
    """Nothing for the worker now: the rest is with others, who may yet fail or give up rows."""

    worker: str


@dataclass(frozen=True, slots=True)
class Done:
    """Every row is committed."""

    worker: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Of the leased rows ``span`` the worker shall give up those from ``keep`` on that it has not
    started. It answers with ``GaveUp``; until then it is asked again at every heartbeat."""

    worker: str
    span: UnitRange
    keep: int


@dataclass(frozen=True, slots=True)
class Expired:
    """Nothing was heard of the worker for too long: it holds ``spans`` no more."""

    worker: str
    spans: tuple[UnitRange, ...]


Instruction = Grant | Wait | Done | GiveUp | Expired


class NoLease(Enum):
    """Answers in short, for a worker that asked for a lease and gets none."""

    WAIT = "wait"
    DONE = "done"
    STOP = "stop"  # the run is stopping: there will be no more
