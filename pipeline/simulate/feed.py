"""Requests on their way to a policy, in the order in which a worker with all of them would read
them. Pure."""

from __future__ import annotations

from collections import deque

from pipeline.admission.demand import Demand
from pipeline.rows.work_order import mixed


class Feed:
    """A policy that chooses gets as many as it wants, from all over the rows, as with a real
    engine; a policy that takes them in their order gets all."""

    def __init__(self) -> None:
        self._coming: deque[Demand] = deque()
        self._new: list[Demand] = []  # since the last call

    def __len__(self) -> int:
        return len(self._coming) + len(self._new)

    def add(self, demand: Demand) -> None:
        self._new.append(demand)

    def take(self, wanted: int | None) -> list[Demand]:
        """The next requests for a policy that wants so many."""
        if wanted is None:
            taken = [*self._coming, *self._new]
            self._coming.clear()
            self._new.clear()
            return taken
        if self._new:
            self._coming.extend(self._new[place] for place in mixed(len(self._new)))
            self._new.clear()
        return [self._coming.popleft() for _ in range(min(wanted, len(self._coming)))]

    def take_back(self) -> list[int]:
        """Remove all that are left. Returns their ids."""
        ids = [demand.id for demand in (*self._coming, *self._new)]
        self._coming.clear()
        self._new.clear()
        return ids
