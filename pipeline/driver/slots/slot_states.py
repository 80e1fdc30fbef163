"""Which cards have an engine, which wait for one, which are given up. Pure: told of what happened
and of the time, in seconds on any clock that never runs backwards."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum

_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0
_MOST_BARREN = 20  # engines: four or five find a row that kills


class Reason(Enum):
    """Why a card is not the run's for now."""

    QUEUE = "another job's turn"
    HOURS = "the job's hours"
    DESKTOP = "somebody plays on it"


@dataclass(slots=True)
class Seat:
    """One card's place. ``failures``: engines lost one after the other without any progress;
    ``barren``: those in a row that finished no row at all; ``aside``: of what the last one died,
    where the job goes on without the card; ``node``: the machine of a rack that it is on, and
    ``away``: that is gone; ``absent``: why the card is not this job's for now, in words."""

    number: int
    card: str
    node: str | None = None
    away: bool = False
    absent: dict[Reason, str] = field(default_factory=dict)
    lives: int = 0  # engines that it had
    failures: int = 0
    barren: int = 0
    taken: bool = False
    finished: bool = False  # there is nothing more to do for it
    free_at: float = 0.0
    aside: str | None = None

    @property
    def withdrawn(self) -> bool:
        """Whether the card is not this job's for now."""
        return bool(self.absent)

    @property
    def name(self) -> str:
        """Of its engine: "worker-0", then "worker-0.1", …"""
        return f"worker-{self.number}" + (f".{self.lives - 1}" if self.lives > 1 else "")


class Seats:
    """``cards``: the kind of each. ``restarts``: of one card's engine without progress."""

    def __init__(self, cards: Sequence[str], restarts: int) -> None:
        self._seats = [Seat(number, card) for number, card in enumerate(cards)]
        self._restarts = restarts

    def add(self, card: str, node: str | None = None) -> Seat:
        """One more card, on the machine ``node`` of a rack."""
        seat = Seat(len(self._seats), card, node)
        self._seats.append(seat)
        return seat

    def gone(self, nodes: Collection[str]) -> None:
        """These machines are no more; those who come back are others."""
        for seat in self._seats:
            seat.away = seat.away or seat.node in nodes

    def withdraw(self, number: int, reason: Reason, why: str | None) -> None:
        """The card is not this job's for now, for ``why``; None: not for that reason (any more)."""
        if why is None:
            self._seats[number].absent.pop(reason, None)
        else:
            self._seats[number].absent[reason] = why

    @property
    def withdrawn(self) -> bool:
        """Whether any card that was this job's may be given back to it."""
        return any(seat.withdrawn and not seat.finished for seat in self.left)

    def postpone(self, number: int, now: float, seconds: float) -> None:
        """Its card is not free: nobody is to blame, and it is tried again."""
        seat = self._seats[number]
        seat.taken = False
        seat.free_at = now + seconds

    def __getitem__(self, number: int) -> Seat:
        return self._seats[number]

    def due(self, now: float) -> list[Seat]:
        """Those to hire an engine for now."""
        return [seat for seat in self._empty if seat.free_at <= now]

    @property
    def waiting(self) -> bool:
        """Whether one will be due later."""
        return bool(self._empty)

    @property
    def _empty(self) -> list[Seat]:
        return [s for s in self.left if not (s.taken or s.finished or s.withdrawn)]

    @property
    def left(self) -> list[Seat]:
        """Those the job goes on with."""
        return [seat for seat in self._seats if seat.aside is None and not seat.away]

    def taken(self, number: int) -> Seat:
        """An engine is hired."""
        seat = self._seats[number]
        seat.taken = True
        seat.lives += 1
        return seat

    def done(self, number: int) -> None:
        """Its engine ended as it should: there was nothing more to do."""
        self._seats[number].finished = True
        self._seats[number].taken = False

    def lost(
        self,
        number: int,
        now: float,
        why: str,
        *,
        progress: bool,
        barren: bool = False,
        unfit: bool = False,
    ) -> Seat:
        """Its engine was lost. ``progress``: it had brought the job further, or its end did;
        ``barren``: it had finished no row. The search for a row that kills is progress and barren,
        but where that goes on for too long it is the card. ``unfit``: no other will do better.

        An engine that is lost again and again has to wait: a second, two, four, … up to a minute.
        """
        seat = self._seats[number]
        seat.taken = False
        seat.barren = seat.barren + 1 if barren else 0
        if progress and seat.barren < _MOST_BARREN:
            seat.failures, seat.free_at = 0, now
            return seat
        seat.failures += 1
        if unfit or seat.failures > self._restarts or seat.barren >= _MOST_BARREN:
            seat.aside = why
        seat.free_at = now + min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (seat.failures - 1))
        return seat
