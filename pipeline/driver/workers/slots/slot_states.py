"""Which cards have an engine, which wait for one, which are given up. Pure: it is given events and
times, in seconds on any clock that never runs backwards."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from pipeline.driver.workers.death import DeathCause, DeathOutcome
from pipeline.humanize import duration
from pipeline.logs import about

if TYPE_CHECKING:  # it imports Ray
    from pipeline.driver.workers.worker_handle import WorkerHandle

_log = logging.getLogger(__name__)
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0
_CLOSING_SECONDS = 30.0  # after the grace period: to commit what was finished
_PLAYER_SECONDS = 5.0  # that a player waits at most for either
_MOST_BARREN = 20  # engines; four or five are enough to find a poison row


class AbsenceReason(Enum):
    """Why a card is not the run's for now."""

    QUEUE = "another job's turn"
    HOURS = "the job's hours"
    DESKTOP = "somebody plays on it"


@dataclass(slots=True)
class SlotState:
    """One card's slot. ``failures``: engines lost one after the other without any progress;
    ``barren``: engines in a row that finished no row at all; ``aside``: why the last one died, if
    the job goes on without the card; ``node``: the machine of a rack that it is on, and ``away``:
    that machine is gone; ``absent``: why the card is not this job's for now, in words."""

    number: int
    card: str
    node: str | None = None
    away: bool = False
    absent: dict[AbsenceReason, str] = field(default_factory=dict)
    lives: int = 0  # engines that it had
    failures: int = 0
    barren: int = 0
    taken: bool = False
    finished: bool = False  # it has nothing more to do
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


@dataclass(slots=True)
class ActiveWorker:
    """The worker on a card, from the driver's view. ``arguments``: of its engine; ``leaves``: since
    when it has to release its card, and ``why``."""

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


class SlotStates:
    """``cards``: the kind of each. ``restarts``: of one card's engine without progress."""

    def __init__(self, cards: Sequence[str], restarts: int) -> None:
        self._states = [SlotState(number, card) for number, card in enumerate(cards)]
        self._restarts = restarts

    def add(self, card: str, node: str | None = None) -> SlotState:
        """One more card, on the machine ``node`` of a rack."""
        state = SlotState(len(self._states), card, node)
        self._states.append(state)
        return state

    def gone(self, nodes: Collection[str]) -> None:
        """These machines are gone; if they come back they count as new."""
        for state in self._states:
            state.away = state.away or state.node in nodes

    def withdraw(self, number: int, reason: AbsenceReason, why: str | None) -> None:
        """The card is not this job's for now, because of ``why``; None: that reason no longer
        holds."""
        absent = self._states[number].absent
        if why != absent.get(reason):
            with about(worker=self._states[number].name):
                _log.info("%s: %s", reason.value, why if why is not None else "over")
        if why is None:
            absent.pop(reason, None)
        else:
            absent[reason] = why

    @property
    def withdrawn(self) -> bool:
        """Whether any card that was this job's may be given back to it."""
        return any(state.withdrawn and not state.finished for state in self.left)

    def postpone(self, number: int, now: float, seconds: float) -> None:
        """Its card is not free: no one is to blame, and it is tried again."""
        state = self._states[number]
        state.taken = False
        state.free_at = now + seconds

    def __getitem__(self, number: int) -> SlotState:
        return self._states[number]

    def due(self, now: float) -> list[SlotState]:
        """Slots to start an engine for now."""
        return [state for state in self._empty if state.free_at <= now]

    @property
    def waiting(self) -> bool:
        """Whether one will be due later."""
        return bool(self._empty)

    @property
    def _empty(self) -> list[SlotState]:
        return [s for s in self.left if not (s.taken or s.finished or s.withdrawn)]

    @property
    def left(self) -> list[SlotState]:
        """Slots that the job goes on with."""
        return [state for state in self._states if state.aside is None and not state.away]

    def taken(self, number: int) -> SlotState:
        """An engine is started."""
        state = self._states[number]
        state.taken = True
        state.lives += 1
        with about(worker=state.name):
            _log.info("an engine is to be loaded on %s", state.card)
        return state

    def done(self, number: int) -> None:
        """Its engine ended as it should: there was nothing more to do."""
        self._states[number].finished = True
        with about(worker=self._states[number].name):
            _log.info("has ended: there is nothing more to do for it")
        self._states[number].taken = False

    def lost(self, number: int, now: float, death: DeathOutcome) -> SlotState:
        """Its engine was lost. A death in the search for a poison row counts as progress though it
        finishes no row; after too many of them the card is to blame. On an unfit machine no other
        engine will do better.

        An engine that is lost again and again has to wait: a second, two, four, … up to a minute.
        """
        state = self._states[number]
        state.taken = False
        state.barren = state.barren + 1 if death.barren else 0
        if death.progress and state.barren < _MOST_BARREN:
            state.failures, state.free_at = 0, now
            _say_lost(state, death.why, "the next one begins at once")
            return state
        state.failures += 1
        unfit = death.cause in (DeathCause.UNFIT, DeathCause.CARD_LOST)
        if unfit or state.failures > self._restarts or state.barren >= _MOST_BARREN:
            state.aside = death.why
        wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (state.failures - 1))
        state.free_at = now + wait
        then = "set aside" if state.aside is not None else f"the next one in {duration(wait)}"
        _say_lost(state, death.why, then)
        return state


def _say_lost(state: SlotState, why: str, then: str) -> None:
    with about(worker=state.name):
        _log.warning("its engine on %s was lost: %s; %s", state.card, why, then)
