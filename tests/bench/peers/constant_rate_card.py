"""A card that is only so fast: for trying out the dispatcher without an engine model. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush


@dataclass(frozen=True, slots=True)
class CostRow:
    """A row by its work, in any measure."""

    id: int
    cost: float


class ConstantRateCard:
    """Works on ``slots`` rows at once, each at ``speed / slots`` (cost per second), in order."""

    def __init__(self, name: str, speed: float, slots: int) -> None:
        self.name = name
        self.speed = speed
        self.slots = slots
        self.now = 0.0
        self.ending = False
        self._queue: deque[CostRow] = deque()
        self._working: list[tuple[float, int, CostRow]] = []  # heap by end

    @property
    def unstarted(self) -> int:
        return len(self._queue)

    @property
    def active(self) -> int:
        return len(self._working)

    @property
    def busy(self) -> bool:
        return bool(self._working)

    def row_seconds(self, cost: float) -> float:
        """From start to end of a row."""
        return cost * self.slots / self.speed

    def give(self, rows: Iterable[CostRow]) -> None:
        self._queue.extend(rows)
        self._start()

    def take_back(self) -> list[CostRow]:
        rows = list(self._queue)
        self._queue.clear()
        return rows

    def fail(self) -> list[CostRow]:
        rows = [row for _, _, row in self._working] + self.take_back()
        self._working.clear()
        return rows

    def step(self) -> list[CostRow]:
        """On to the next end of a row."""
        end, _, row = heappop(self._working)
        self.now = max(self.now, end)
        self._start()
        return [row]

    def _start(self) -> None:
        while self._queue and len(self._working) < self.slots:
            row = self._queue.popleft()
            heappush(self._working, (self.now + self.row_seconds(row.cost), row.id, row))
