"""Which job is at work on which cards of a rack, as drivers say and `rack show` shows."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from pipeline.cluster.rack_state.allocation import Key
from pipeline.cluster.rack_state.gcs import Gcs

_AT_WORK = "at-work/"  # names of values, before a run's
_AGAIN_SECONDS = 10.0
_OLD_SECONDS = 60.0  # who has not said it again for so long is no more


@dataclass(frozen=True)
class SlotUsage:
    """``cards``: by Ray's number of the machine, and which of its cards."""

    job: str
    model: str
    cards: frozenset[Key]


class SlotUsageSign:
    """A driver's. All methods raise HeadGone."""

    def __init__(self, gcs: Gcs, run: str) -> None:
        """``run``: a name that no other has."""
        self._gcs, self._name = gcs, _AT_WORK + run
        self._said: SlotUsage | None = None
        self._at = 0.0

    def say(self, work: SlotUsage) -> None:
        """It has these cards now."""
        if work == self._said and time.monotonic() - self._at < _AGAIN_SECONDS:
            return
        content = {"job": work.job, "model": work.model, "cards": sorted(work.cards)}
        self._gcs.put(self._name, json.dumps(content | {"at": time.time()}).encode())
        self._said, self._at = work, time.monotonic()

    def close(self) -> None:
        self._gcs.delete(self._name)


def slot_usage(gcs: Gcs) -> dict[Key, SlotUsage]:
    """By card. Raises HeadGone."""
    found: dict[Key, SlotUsage] = {}
    for content in gcs.all(gcs.names(_AT_WORK)).values():
        said = json.loads(content)
        if time.time() - said["at"] < _OLD_SECONDS:
            cards = frozenset((node, index) for node, index in said["cards"])
            found |= dict.fromkeys(cards, SlotUsage(said["job"], said["model"], cards))
    return found
