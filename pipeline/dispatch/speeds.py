"""How fast each card is: as the forecast expects, until it is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

_EXPECTED_SECONDS = 20.0  # the expectation weighs as much as this many seconds measured
_HALF_LIFE = 90.0  # busy seconds, after which a measurement counts half


@dataclass(slots=True)
class _Measured:
    """Sums over the near past, of a worker or (``expected`` apart) of all of them."""

    expected: float  # cost per second, from the forecast
    seconds: float = 0.0
    cost: float = 0.0
    tokens: float = 0.0
    trust: float = _EXPECTED_SECONDS  # seconds measured that the expectation counts as
    speed: float = 0.0  # as last added to the total


class Speeds:
    """Predicted cost per second of each worker.

    Where workers report tokens, a card's speed is taken from its tokens and converted to cost by
    the mean tokens per unit of cost over all cards: so it matters little which rows a card happened
    to have.
    """

    def __init__(self) -> None:
        self._workers: dict[str, _Measured] = {}
        self._all = _Measured(1.0)
        self._promised = 0.0  # cost expected for the measured seconds
        self.total = 0.0  # over all workers

    def join(self, worker: str, expected: float) -> None:
        """``expected``: cost per second, above 0."""
        self.drop(worker)
        self._workers[worker] = _Measured(expected)
        self.of(worker)

    def drop(self, worker: str) -> None:
        gone = self._workers.pop(worker, None)
        if gone is not None:
            self.total = max(0.0, self.total - gone.speed) if self._workers else 0.0

    def note(self, worker: str, cost: float, tokens: float, seconds: float) -> None:
        """What the worker did in its last ``seconds`` of work."""
        if seconds <= 0:
            return
        decay = math.exp2(-seconds / _HALF_LIFE)
        mine = self._workers[worker]
        for sums in (mine, self._all):
            # the sums over all forget as fast as one worker's, if all report equally often
            fade = decay if sums is mine else decay ** (1 / len(self._workers))
            sums.seconds = sums.seconds * fade + seconds
            sums.cost = sums.cost * fade + cost
            sums.tokens = sums.tokens * fade + tokens
            sums.trust *= fade
        self._promised = self._promised * decay ** (1 / len(self._workers))
        self._promised += mine.expected * seconds
        self.of(worker)

    def of(self, worker: str) -> float:
        """Cost per second; above 0."""
        mine = self._workers[worker]
        done = mine.cost
        if mine.tokens > 0 and self._all.tokens > 0:
            done = mine.tokens * self._all.cost / self._all.tokens
        expected = mine.expected * self._forecast_bias
        speed = (expected * mine.trust + done) / (mine.trust + mine.seconds)
        speed = max(speed, 1e-9)
        self.total = max(speed, self.total + speed - mine.speed)
        mine.speed = speed
        return speed

    @property
    def _forecast_bias(self) -> float:
        """Measured over expected: how wrong the forecast is, over all cards."""
        seconds = self._all.seconds
        if not self._promised:
            return 1.0
        # a forecast is wrong by a factor, and is believed less the further off it is: chance may
        # explain a few tenths for a while, but not a factor of a hundred
        off = math.log(max(self._all.cost / self._promised, 1e-6))
        weight = seconds / (seconds + _EXPECTED_SECONDS / (1 + off * off))
        return math.exp(weight * off)
