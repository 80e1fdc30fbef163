"""Everything goes to the engine at once: its own admission decides."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pipeline.admission.demand import Demand
from pipeline.admission.policy import Limits
from pipeline.budget.step_time import StepWork
from pipeline.rows.workload import Lengths


class PassThrough:
    """In order of arrival. What is reported to it changes nothing."""

    patience = 1 << 30
    wanted: int | None = None
    peak = 0.0

    def __init__(self) -> None:
        self._urgent: deque[Demand] = deque()
        self._waiting: deque[Demand] = deque()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._waiting)

    def add(self, demand: Demand, *, urgent: bool = False) -> None:
        (self._urgent if urgent else self._waiting).append(demand)

    def forget(self, request_id: int) -> None:
        for queue in (self._urgent, self._waiting):
            kept = [demand for demand in queue if demand.id != request_id]
            queue.clear()
            queue.extend(kept)

    def take_back(self) -> list[int]:
        ids = [demand.id for demand in (*self._urgent, *self._waiting)]
        self._urgent.clear()
        self._waiting.clear()
        return ids

    @property
    def first(self) -> Demand | None:
        """Whose turn it is."""
        queue = self._urgent or self._waiting
        return queue[0] if queue else None

    def next(self, *, inside: int, waiting: int, ending: bool) -> Demand | None:  # noqa: ARG002
        queue = self._urgent or self._waiting
        return queue.popleft() if queue else None

    def generated(self, ids: Iterable[int], steps: int = 1) -> None:
        pass

    def finished(self, request_id: int, tokens: int | None) -> None:
        pass

    def recomputed(self, tokens: int) -> None:
        pass

    def stepped(self, seconds: float, work: StepWork, waiting: int | None = None) -> None:
        pass


def make(limits: Limits, known: Lengths | None, number: int) -> PassThrough:  # noqa: ARG001
    return PassThrough()
