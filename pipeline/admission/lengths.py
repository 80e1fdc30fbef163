"""How long completions get: learned from those that this job has finished.

The actuarial estimator of survival (a life table over a few dozen bins; Kaplan and Meier 1958 is
its limit for narrow bins). A histogram of finished lengths would be misled, since short completions
finish first; here a request that still runs counts as having survived so far, as does one that was
cut off at its own limit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.rows.workload import Lengths

_BINS_PER_OCTAVE = 8
_REMEMBERED = 1024  # completions: older ones fade, so that a drift in the data is followed
_PRIOR_SHARE, _PRIOR_MOST = 0.2, 256  # of the limit, tokens: a completion before any was seen
_PRIOR_WEIGHT = 2.0  # completions that the prior counts as
_PRIOR_TAIL = 0.18  # its exponent: seven of eight that lived so long live twice as long
_KNOWN_WEIGHT = 4.0  # completions that those of an earlier run count as
_KNOWN_SLICES = 4  # of them, from which on their spread is believed too
_STRANGE = 0.1  # the share of completions that may be unlike all of the earlier run
_GROUP_WEIGHT = 8.0  # completions of all groups that stand beside a group's own
MAX_GROUPS = 32


class OutputLengths:
    """Survival curves of completion lengths, in tokens, for groups of similar requests.

    ``limit``: the longest possible completion (tokens). ``known``: the lengths of an earlier run of
    the same prompt, or whatever else is known at the start. If nothing is known, we expect a fifth
    of the limit, 256 at most, with a heavy tail (Lomax): as long as none has ended, those that run
    are expected to run for long, so a guess that was too short does not fill the cache with
    requests that then all grow.
    """

    def __init__(self, limit: int, known: Lengths | None = None) -> None:
        self.limit = max(1, limit)
        octaves = np.log2(self.limit + 1)
        count = int(np.ceil(octaves * _BINS_PER_OCTAVE)) + 1
        edges = np.unique(np.round(2 ** np.linspace(0, octaves, count)).astype(np.int64)) - 1
        self._low = edges[:-1].astype(np.float64)
        self._width = np.diff(edges).astype(np.float64)
        self._edges = edges.astype(np.float64)
        self._prior_weight = _PRIOR_WEIGHT
        if known is None:
            self.prior_mean = max(min(self.limit * _PRIOR_SHARE, _PRIOR_MOST), 1.0)
            self._prior = _heavy_tail(self._edges, self.prior_mean)
        else:
            self.prior_mean = max(known.mean, 1.0)
            self._prior = np.maximum(np.exp(-self._edges / self.prior_mean), 1e-30)
            if len(known.slices) >= _KNOWN_SLICES:
                self._prior_weight = _KNOWN_WEIGHT
                self._prior *= _STRANGE
                self._prior += (1 - _STRANGE) * _longer(known, self._edges)
        self._ended = np.zeros((1 + MAX_GROUPS, len(self._width)))  # row 0: all groups
        self._at_risk = np.zeros_like(self._ended)  # completions that came so far
        self._groups: dict[int, int] = {}  # the caller's group -> row
        self.observed = 0

    def row(self, group: int) -> int:
        """The row of ``group`` in the tables; the row of all groups once there are too many."""
        if group not in self._groups:
            self._groups[group] = len(self._groups) + 1 if len(self._groups) < MAX_GROUPS else 0
        return self._groups[group]

    def observe(self, group: int, tokens: int, *, cut: bool = False) -> None:
        """One more finished completion. ``cut``: at its limit, so it would have been longer."""
        self.observed += 1
        lived = self._lived(np.array([tokens], np.float64))[0]
        last = max(int(np.searchsorted(self._edges, tokens, "left")) - 1, 0)
        last = min(last, len(self._width) - 1)
        if not cut:
            lived[last] = 1
        for row in {0, self.row(group)}:
            self._ended[row] *= 1 - 1 / _REMEMBERED
            self._at_risk[row] *= 1 - 1 / _REMEMBERED
            self._at_risk[row] += lived
            self._ended[row, last] += not cut

    def curves(
        self, rows: NDArray[np.int64], generated: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Log-survival and its variance, float32 [1 + groups, limit + 2] each: entry n of the first
        is log P(longer than n), and of the second its uncertainty (Greenwood 1926).

        ``rows`` and ``generated``: of the requests that run now, and how long they are already.
        """
        used = 1 + min(len(self._groups), MAX_GROUPS)
        ended, at_risk = self._ended[:used], self._at_risk[:used].copy()
        if len(rows):
            lived = self._lived(generated.astype(np.float64))
            at_risk[0] += lived.sum(0)
            inner = rows > 0
            np.add.at(at_risk, rows[inner], lived[inner])
        prior = self._prior_weight * self._prior
        prior_risk = prior[:-1]  # the part of it that reaches each bin
        prior_ends = prior_risk - prior[1:]
        whole = (ended[0] + prior_ends) / (at_risk[0] + prior_risk)
        alive = np.cumprod(1 - whole)
        risk = _GROUP_WEIGHT * np.maximum(np.concatenate([[1.0], alive[:-1]]), 1e-3)
        ends = (ended + risk * whole) / (at_risk + risk)  # the share that ends in each bin
        ends[0] = whole
        known = at_risk + prior_risk
        known[1:] += risk - prior_risk
        doubt = np.cumsum(ends / (known * np.maximum(1 - ends, 1e-3)), 1)
        doubt = np.concatenate([np.zeros((len(ends), 1)), doubt], axis=1)
        alive = np.concatenate([np.ones((len(ends), 1)), np.cumprod(1 - ends, 1)], axis=1)
        tokens = np.arange(self.limit + 2)
        bins = np.clip(np.searchsorted(self._edges, tokens, "right") - 1, 0, len(self._width) - 1)
        within = np.minimum((tokens - self._low[bins]) / self._width[bins], 1)
        # within a bin ends are spread evenly
        curves: NDArray[np.float64] = alive[:, bins] * (1 - ends[:, bins] * within)
        logs: NDArray[np.float32] = np.log(np.maximum(curves, 1e-12)).astype(np.float32)
        unsure = doubt[:, bins] + (doubt[:, bins + 1] - doubt[:, bins]) * within
        return logs, unsure.astype(np.float32)

    def expected(self, group: int, max_tokens: int) -> float:
        """The mean length of a completion that ends at ``max_tokens`` at the latest, in tokens."""
        none = np.zeros(0, np.int64)
        row = self.row(group)  # it may be the first of its group
        curve = self.curves(none, none)[0][row]
        return float(np.exp(curve[: min(max_tokens, self.limit)]).sum())

    def _lived(self, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
        """How much of each bin lies before ``tokens``, 0..1: [len(tokens), bins]."""
        lived: NDArray[np.float64] = np.clip((tokens[:, None] - self._low) / self._width, 0, 1)
        return lived


def _longer(known: Lengths, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of ``known`` that is longer than each of ``tokens``; within a slice, half of it
    is."""
    count = len(known.slices)
    ends = [0.0, *known.slices, max(known.longest, known.slices[-1] + 1)]
    shares = [1.0, *((count - i - 0.5) / count for i in range(count)), 0.0]
    return np.interp(tokens, ends, shares)


def _heavy_tail(tokens: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """The prior's share that is longer than each of ``tokens``, the last of which is the limit:
    (1 + t / scale) ** -tail, with the scale at which the mean up to the limit is ``mean``."""
    every = np.arange(tokens[-1])
    low, high = 1e-3, 1e9
    for _ in range(48):
        scale = np.sqrt(low * high)
        if ((1 + every / scale) ** -_PRIOR_TAIL).sum() > mean:
            high = scale
        else:
            low = scale
    alive: NDArray[np.float64] = (1 + tokens / low) ** -_PRIOR_TAIL
    return alive
