"""Which job works on which cards of a rack; drivers write it and `rack show` reads it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter

from pipeline.cluster.rack_state.allocation import Key
from pipeline.cluster.rack_state.gcs import Gcs

_AT_WORK = "at-work/"  # prefix of values' names; the run's name follows
_AGAIN_SECONDS = 10.0
_OLD_SECONDS = 60.0  # an older entry is ignored: its driver is gone


@dataclass(frozen=True)
class SlotUsage:
    """``cards``: Ray's ID of the machine, and the number of its card; ``at``: when it was so, in
    epoch seconds."""

    job: str
    model: str
    cards: frozenset[Key]
    at: float = field(default=0.0, compare=False)


_JSON = TypeAdapter(SlotUsage)


class SlotUsageSign:
    """For a driver. All methods raise HeadGone."""

    def __init__(self, gcs: Gcs, run: str) -> None:
        """``run``: a unique name."""
        self._gcs, self._name = gcs, _AT_WORK + run
        self._said: SlotUsage | None = None
        self._at = 0.0

    def say(self, work: SlotUsage) -> None:
        """Write that it has these cards now."""
        if work == self._said and time.monotonic() - self._at < _AGAIN_SECONDS:
            return
        self._gcs.put(self._name, _JSON.dump_json(replace(work, at=time.time())))
        self._said, self._at = work, time.monotonic()

    def close(self) -> None:
        self._gcs.delete(self._name)


def slot_usage(gcs: Gcs) -> dict[Key, SlotUsage]:
    """The usage by card. Raises HeadGone."""
    found: dict[Key, SlotUsage] = {}
    for content in gcs.all(gcs.names(_AT_WORK)).values():
        said = _JSON.validate_json(content)
        if time.time() - said.at < _OLD_SECONDS:
            found |= dict.fromkeys(said.cards, said)
    return found
