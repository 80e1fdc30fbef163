"""An active worker on a card, from the driver's view, and how long it has to release the card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.driver.workers.slots.slot_states import AbsenceReason, SlotState

if TYPE_CHECKING:  # it imports Ray
    from pipeline.driver.workers.worker_handle import WorkerHandle

_CLOSING_SECONDS = 30.0  # after the grace period: to commit what was finished
_PLAYER_SECONDS = 5.0  # that a player waits at most for either


@dataclass(slots=True)
class ActiveWorker:
    """``arguments``: of its engine; ``leaves``: since when it has to release its card, and
    ``why``."""

    worker: WorkerHandle
    arguments: Mapping[str, Any]
    leaves: float | None = None
    why: str = ""
    _player: bool = False

    def seconds_left(self, state: SlotState, now: float, grace: float) -> float | None:
        """If its card is not the run's: how many seconds it still has for the rows in its engine,
        ``grace`` at most; None: its time is over."""
        if self.leaves is None:
            self.leaves, self.why = now, next(iter(state.absent.values()))
        self._player = self._player or AbsenceReason.DESKTOP in state.absent
        closing = _CLOSING_SECONDS
        if self._player:
            grace, closing = min(grace, _PLAYER_SECONDS), _PLAYER_SECONDS
        left = self.leaves + grace - now
        return max(0.0, left) if left > -closing else None
