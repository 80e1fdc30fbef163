"""What of an engine's end is seen by the driver and said by the worker becomes one outcome."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.dispatch.events import Blame, Gain
from pipeline.driver.workers.death import (
    DeathCause,
    DeathOutcome,
    Sighting,
    death_outcome,
    sighting,
)
from pipeline.errors import CardLost, EngineFailed, EngineOutOfMemory, MachineUnfit, RackmillError
from pipeline.worker.coordination.messages import LastWords

LESS = "64 requests at once instead of 256"
SAID = LastWords("it said so")


@pytest.mark.parametrize(
    ("failure", "away", "cause"),
    [
        (EngineFailed("x"), False, DeathCause.FAILED),
        (EngineOutOfMemory("x"), False, DeathCause.OUT_OF_MEMORY),
        (MachineUnfit("x"), False, DeathCause.UNFIT),
        (CardLost("x"), False, DeathCause.CARD_LOST),
        ("x", False, DeathCause.VANISHED),
        (EngineFailed("x"), True, DeathCause.MACHINE_GONE),
        (CardLost("x"), True, DeathCause.MACHINE_GONE),
        ("x", True, DeathCause.MACHINE_GONE),
    ],
)
def test_what_the_driver_sees_has_one_cause(
    failure: RackmillError | str, away: bool, cause: DeathCause
) -> None:
    assert sighting(failure, away=away, lighter=None) == Sighting(cause, "x")


@pytest.mark.parametrize(
    ("cause", "lighter", "said", "blame", "why"),
    [
        (DeathCause.FAILED, None, SAID, Blame.TOLD, "it said so"),
        (DeathCause.FAILED, None, None, Blame.UNTOLD, "seen"),
        (DeathCause.VANISHED, None, SAID, Blame.TOLD, "it said so"),
        (DeathCause.VANISHED, None, None, Blame.UNTOLD, "seen"),
        (DeathCause.UNFIT, None, SAID, Blame.TOLD, "it said so"),
        (DeathCause.OUT_OF_MEMORY, LESS, SAID, Blame.NO_ROW, "it said so"),
        (DeathCause.OUT_OF_MEMORY, LESS, None, Blame.NO_ROW, "seen"),
        (DeathCause.OUT_OF_MEMORY, None, SAID, Blame.TOLD, "it said so"),
        (DeathCause.CARD_LOST, None, SAID, Blame.NO_ROW, "seen"),
        (DeathCause.MACHINE_GONE, None, SAID, Blame.NO_ROW, "it said so"),
        (DeathCause.TAKEN, None, None, Blame.NO_ROW, "seen"),
    ],
)
def test_whether_rows_may_be_to_blame(
    cause: DeathCause, lighter: str | None, said: LastWords | None, blame: Blame, why: str
) -> None:
    seen = Sighting(cause, "seen", lighter)

    assert death_outcome(seen, said) == DeathOutcome(cause, why, blame, lighter)


@pytest.mark.parametrize(
    ("finished", "gain", "lighter", "progress", "barren"),
    [
        (0, Gain.NOTHING, None, False, True),
        (9, Gain.NOTHING, None, False, False),
        (9, Gain.ROWS, None, True, False),
        (0, Gain.SEARCH, None, True, True),
        (9, Gain.SEARCH, None, True, False),
        (0, Gain.NOTHING, LESS, True, False),
    ],
)
def test_whether_it_was_in_vain(
    finished: int, gain: Gain, lighter: str | None, progress: bool, barren: bool
) -> None:
    outcome = death_outcome(Sighting(DeathCause.OUT_OF_MEMORY, "x", lighter), None)
    outcome = replace(outcome, finished=finished, gain=gain)

    assert (outcome.progress, outcome.barren) == (progress, barren)
