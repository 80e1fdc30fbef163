"""How far the engines on each kind of card had to step down for lack of memory."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pipeline.engine.failure.oom_fallback import EngineLimits, next_rung
from pipeline.errors import Shortage

_log = logging.getLogger(__name__)


class OomSteps:
    """Engine arguments by kind of card. What failed on one card is tried on no other of its
    kind."""

    def __init__(self) -> None:
        self.arguments: dict[str, dict[str, Any]] = {}
        self._limits: dict[str, EngineLimits] = {}

    def is_new(self, card: str) -> bool:
        """Whether nothing is known of such cards."""
        return card not in self.arguments

    def learn(self, card: str, arguments: Mapping[str, Any], limits: EngineLimits) -> None:
        """Engines on such cards begin with these ``arguments``."""
        self.arguments[card] = dict(arguments)
        self._limits[card] = limits

    def step_down(
        self, card: str, tried: Mapping[str, Any], short: Shortage, *, running: int | None = None
    ) -> str | None:
        """The next engine on such a card takes less than ``tried``, which failed. Returns what
        changes, in words; None when there is no way further down.

        ``short``: what it had too little memory for; ``running``: the engine was loaded, and ran
        out later with this many requests at once (0: not known).
        """
        now = self.arguments[card]
        if now != dict(tried):
            return "what others of its kind have"  # another engine stepped down meanwhile
        rung = next_rung(now, self._limits[card], short, running=running)
        if rung is None:
            _log.warning("too little memory on %s, and no way further down", card)
            return None
        _log.warning("too little memory on %s: the next engines take %s", card, rung.says)
        self.arguments[card] = rung.arguments
        return rung.says
