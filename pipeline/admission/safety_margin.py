"""How much of the KV cache to keep free for chance: learned from what steps cost.

Letting one more request in fills a step that takes nearly as long without it; it would otherwise
wait for the next one to end, some steps. That is worth

    gain = steps until the next end * fixed seconds of a step / requests running.

The steps until the next end are a completion's length over the requests running: with half as many
running as usual, one more is worth four times as much. So while few run, as at the start and behind
a large prompt, less is kept free.

If the cache overflows, the newest request is preempted, and its tokens are computed again:

    loss = recomputed tokens * seconds per token.

So the chance of overflow that one should accept is about gain / loss: a few per cent for 27B on a
gaming card, where 200 tokens of prompt take as long as a dozen steps, but no bound at all for a
small model on a CPU. Near 1 it is taken as it is; small ones are squared as well, since a
preemption delays more than its own request.

What is recomputed in fact moves the margin. What it rose by is forgotten again, soon at the start,
since most of that is of lengths that were not known then, and ever more slowly: what is recomputed
later on comes of data that keep changing.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

_UNMEASURED = 2.5  # standard deviations, while steps are few
_LEAST, _MOST = -1.0, 4.0
_LEAST_CHANCE, _MOST_CHANCE = 0.003, 0.85
_OFFSET = 2.5  # at most, either way, by what is recomputed in fact
_RECOMPUTED = 0.004  # the share of all computed tokens aimed at, at least
_PER_TOKEN = 4e-4  # of recomputation: one preemption is about 0.16
_ENOUGH_PURE, _ENOUGH_MIXED = 4, 1  # steps of decoding only, and with prefill
_LOOK_AGAIN = 32  # steps
_FADE = 1 - 1 / 512  # of a step's weight, with each later one
_MEMORY = 1 / 64  # of the running means, with each new request
# requests until a rise is forgotten: at first, for each that ended more, and at most
_KEPT, _LONGER, _KEPT_MOST = 64, 0.5, 1024


class SafetyMargin:
    """In standard deviations of the future peak. It learns from steps, ends and recomputation."""

    def __init__(self, expected_tokens: float) -> None:
        """``expected_tokens``: of a completion, before any was seen."""
        self._base = _UNMEASURED
        self._offset = 0.0
        self._aim = _RECOMPUTED
        self._steps = 0
        self._pure = self._mixed = 0  # of decoding only, and with prefill
        self._chance: float | None = None  # of overflow, worth it with ``_weighed_with`` running
        self._xx = np.zeros((2, 2))
        self._xy = np.zeros(2)
        self._batch = 1.0  # requests that decode, in the mean
        self._weighed_with = 1.0  # the same when ``_chance`` was weighed
        self._prompt, self._completion = 0.0, expected_tokens  # running means, tokens
        self._ended = 0

    @property
    def value(self) -> float:
        """With as many requests running as in the mean so far, or more."""
        return self._clamped(self._base)

    def at(self, running: int) -> float:
        """With ``running`` requests running now."""
        if self._chance is None or running >= self._weighed_with:
            return self.value
        worth = self._chance * (self._weighed_with / max(running, 1)) ** 2
        return self._clamped(_deviations(worth))

    def stepped(
        self, seconds: float, *, sequences: int, prefill_tokens: int = 0, steps: int = 1
    ) -> None:
        """``steps`` similar steps took ``seconds`` in all, with these sums of decoding sequences
        and of prompt tokens computed."""
        self._steps += 1
        if seconds <= 0:
            return
        # the number that decode varies little: its cost cannot be separated from a fixed one
        x = np.array([1.0, (prefill_tokens + sequences) / steps])
        y = seconds / steps
        weight = min(steps, _LOOK_AGAIN) / y  # long steps are as uncertain as they are long
        self._xx = self._xx * _FADE + weight * np.outer(x, x)
        self._xy = self._xy * _FADE + weight * y * x
        if prefill_tokens:
            self._mixed += 1
        else:
            self._pure += 1
            self._batch += (sequences / steps - self._batch) * max(_MEMORY, 1 / self._pure)
        both = self._mixed >= _ENOUGH_MIXED and self._pure >= _ENOUGH_PURE
        if both and (self._chance is None or self._steps % _LOOK_AGAIN == 0):
            self._weigh()

    def admitted(self, prompt_tokens: int) -> None:
        """A request goes in."""
        first = not self._prompt
        self._prompt += (prompt_tokens - self._prompt) * (1 if first else _MEMORY)
        self._calm(prompt_tokens)

    def ended(self, completion_tokens: int) -> None:
        """A request has ended."""
        self._ended += 1
        share = max(_MEMORY, 1 / (self._ended + 4))
        self._completion += (completion_tokens - self._completion) * share
        kept = min(_KEPT + _LONGER * self._ended, _KEPT_MOST)
        self._offset -= max(self._offset, 0.0) / kept

    def generated(self, tokens: int) -> None:
        """This many tokens were computed for the first time."""
        self._calm(tokens)

    def recomputed(self, tokens: int) -> None:
        """This many tokens were computed again after a preemption."""
        self._move(tokens)

    def _calm(self, tokens: int) -> None:
        self._move(-self._aim * tokens)

    def _move(self, tokens: float) -> None:
        self._offset = min(max(self._offset + tokens * _PER_TOKEN, -_OFFSET), _OFFSET)

    def _clamped(self, deviations: float) -> float:
        return min(max(deviations + self._offset, _LEAST), _MOST)

    def _weigh(self) -> None:
        """The accepted chance of overflow, from the means so far."""
        ridge = np.diag([1e-9, 1e-3]) * max(self._xx[0, 0], 1e-9)
        fixed, per_token = np.linalg.solve(self._xx + ridge, self._xy)
        if per_token <= 0:
            return
        batch = self._weighed_with = max(self._batch, 1.0)
        gain = self._completion / batch * max(fixed, 0.0) / batch
        again = self._prompt + self._completion / 4  # the newest has generated least
        self._chance = gain / (again * per_token)
        self._base = _deviations(self._chance)
        share = again / (self._prompt + self._completion)
        self._aim = max(_RECOMPUTED, _bounded(self._chance) * share)


def _bounded(chance: float) -> float:
    """The accepted chance of overflow where ``chance`` (gain over loss) would be worth it."""
    chance = chance * chance / (1 + chance)
    return min(max(chance, _LEAST_CHANCE), _MOST_CHANCE)


def _deviations(chance: float) -> float:
    return NormalDist().inv_cdf(1 - _bounded(chance))
