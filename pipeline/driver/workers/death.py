"""An engine's death: what the worker and the driver saw becomes one outcome.

The worker reports why its engine failed and which rows were in it (``LastWords``), if it still can.
The driver sees an exception, a missing process, machine or card, or silence (``Sighting``). The
coordinator gets both and answers with one ``DeathOutcome``, which decides what happens to the rows
and to the slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pipeline.dispatch.events import Blame, Gain
from pipeline.errors import CardLost, EndpointGone, EngineOutOfMemory, MachineUnfit, RackmillError
from pipeline.worker.coordination.messages import LastWords


class DeathCause(Enum):
    """What ended an engine, as far as it is known."""

    FAILED = "it failed"
    OUT_OF_MEMORY = "it did not get the memory it asked for"
    UNFIT = "its machine cannot do the job, whatever engine it gets"
    CARD_LOST = "its card has fallen off the bus"
    VANISHED = "its process died, or nothing was heard of it for too long"
    MACHINE_GONE = "its machine is no more in the rack"
    ENDPOINT_GONE = "its server does not answer any more"
    TAKEN = "its card was not the run's any more"


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the driver saw. ``lighter``: what the next engine on such a card asks for less, in
    words; None where it asks for the same."""

    cause: DeathCause
    why: str
    lighter: str | None = None


@dataclass(frozen=True, slots=True)
class DeathOutcome:
    """Why an engine died and what follows. ``finished``: rows that it had finished, as far as is
    known. ``lighter``: as in ``Sighting``."""

    cause: DeathCause
    why: str
    blame: Blame
    lighter: str | None = None
    finished: int = 0
    gain: Gain = Gain.NOTHING

    @property
    def progress(self) -> bool:
        """Whether the engine, or its end, brought the job forward."""
        return self.lighter is not None or self.gain is not Gain.NOTHING

    @property
    def barren(self) -> bool:
        """Whether it finished no row, and the next one will start with the same arguments."""
        return self.lighter is None and not self.finished


_OF_NO_ROW = (
    DeathCause.CARD_LOST,
    DeathCause.MACHINE_GONE,
    DeathCause.ENDPOINT_GONE,
    DeathCause.TAKEN,
)
_CAUSES = {
    str: DeathCause.VANISHED,
    CardLost: DeathCause.CARD_LOST,
    MachineUnfit: DeathCause.UNFIT,
    EndpointGone: DeathCause.ENDPOINT_GONE,
    EngineOutOfMemory: DeathCause.OUT_OF_MEMORY,
}


def sighting(failure: RackmillError | str, *, away: bool, lighter: str | None) -> Sighting:
    """From the ``failure`` of a worker: an exception, or in words what happened to its process.
    ``away``: its machine has left the rack."""
    kinds = [cause for kind, cause in _CAUSES.items() if isinstance(failure, kind)]
    cause = DeathCause.MACHINE_GONE if away else (*kinds, DeathCause.FAILED)[0]
    return Sighting(cause, str(failure), lighter)


def death_outcome(seen: Sighting, said: LastWords | None) -> DeathOutcome:
    """One outcome from what the driver saw and what the worker said, if it did, before anything
    follows from it.

    The worker knows better why its engine failed, except when the card was lost: then an engine may
    raise anything.
    """
    if seen.cause in _OF_NO_ROW or seen.lighter is not None:
        blame = Blame.NO_ROW
    else:
        blame = Blame.UNTOLD if said is None else Blame.TOLD
    why = seen.why if said is None or seen.cause is DeathCause.CARD_LOST else said.why
    return DeathOutcome(seen.cause, why, blame, seen.lighter)
