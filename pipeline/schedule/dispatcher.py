"""Who works on what: a pure state machine over units and workers. No clock, no I/O.

Every unit is pending, leased to one worker, or committed. A worker asks for a lease and gets a
unit, the word to wait (the rest is for others, who may yet fail), or the word that all is done.
What a lost worker held is pending again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum


class Word(Enum):
    """Answers to a worker that asked for a lease and gets none."""

    WAIT = "wait"
    DONE = "done"


@dataclass(frozen=True)
class Lease:
    """A unit, by its place in input order, given to a worker for now."""

    unit: int
    worker: str
    losses: int  # how often a worker was lost while it held this unit


@dataclass
class Dispatcher:
    """State over ``units`` units, of which ``committed`` are there already.

    ``workers``: how many are expected. None of them holds more than its equal share of what is
    left, so that one who comes early does not take the units of one who is still on its way.
    """

    units: int
    committed: set[int]
    workers: int = 1
    max_losses: int = 3
    _pending: deque[int] = field(default_factory=deque)
    _leases: dict[int, str] = field(default_factory=dict)
    _losses: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._pending.extend(u for u in range(self.units) if u not in self.committed)

    @property
    def done(self) -> bool:
        return len(self.committed) == self.units

    @property
    def pending(self) -> int:
        return len(self._pending)

    @property
    def leased(self) -> int:
        return len(self._leases)

    @property
    def hopeless(self) -> list[int]:
        """Units that took too many workers down with them."""
        lost = self._losses.items()
        return [u for u, n in lost if n >= self.max_losses and u not in self.committed]

    def acquire(self, worker: str) -> Lease | Word:
        """The next unit for ``worker``, in input order."""
        share = -(-(self.units - len(self.committed)) // self.workers)
        held = sum(holder == worker for holder in self._leases.values())
        if self._pending and held < share:
            unit = self._pending.popleft()
            self._leases[unit] = worker
            return Lease(unit, worker, self._losses[unit])
        return Word.DONE if self.done else Word.WAIT

    def commit(self, unit: int) -> None:
        """A commit record for ``unit`` exists, whoever made it. Harmless to say again."""
        self._leases.pop(unit, None)
        if unit not in self.committed:
            self.committed.add(unit)
            if unit in self._pending:  # committed by a worker thought lost
                self._pending.remove(unit)

    def lost(self, worker: str) -> list[int]:
        """``worker`` is gone: its units are pending again, first in line. Returns them."""
        units = sorted(u for u, w in self._leases.items() if w == worker)
        for unit in units:
            del self._leases[unit]
            self._losses[unit] += 1
        self._pending.extendleft(reversed(units))
        return units

    def returned(self, units: Iterable[int]) -> None:
        """Leases given back unworked."""
        for unit in sorted(units, reverse=True):
            if self._leases.pop(unit, None) is not None:
                self._pending.appendleft(unit)
