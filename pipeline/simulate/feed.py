"""Requests on their way to a policy, in the order in which a worker that has them all would read
them. Pure."""

from __future__ import annotations

from collections import deque

from pipeline.admission.demand import Demand
from pipeline.rows.work_order import mixed


class Feed:
    """Where a policy chooses, it gets from all over the rows as many as it wants, as beside a real
    engine; one that takes them as they come gets all, in their order."""

    def __init__(self) -> None:
        self._coming: deque[Demand] = deque()
        self._new: list[Demand] = []  # since it was asked last

    def __len__(self) -> int:
        return len(self._coming) + len(self._new)

    def add(self, demand: Demand) -> None:
        self._new.append(demand)

    def take(self, wanted: int | None) -> list[Demand]:
        """The next that a policy gets, who wants so many."""
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
        """Ids of all that are still here; they are forgotten."""
        ids = [demand.id for demand in (*self._coming, *self._new)]
        self._coming.clear()
        self._new.clear()
        return ids
