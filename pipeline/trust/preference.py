"""Which of several answers is better, from comparisons of two at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.trust.arrays import Floats

ELO = 400 / float(np.log(10))  # points for each unit of log-odds

_ROUNDS = 10_000
_CLOSE = 1e-12
# Ties added between every two that were compared: one that never lost is not infinitely better.
_TIES_BEFORE = 0.1


@dataclass(frozen=True)
class Strength:
    """On Elo's scale, with a mean of 0 over all: with 400 points more, an answer wins ten times as
    often as it loses. ``low`` and ``high``: the 95 % interval."""

    elo: float
    low: float
    high: float


def bradley_terry(wins: Floats, ties_before: float = _TIES_BEFORE) -> Floats:
    """Strengths [..., answers] in log-odds, with mean 0, from how often each won against each other
    (``wins`` [..., winner, loser]; a tie is half a win for both): maximum likelihood in Bradley's
    and Terry's model (1952), by Hunter's MM iteration (2004). ``ties_before``: ties added between
    every two that were compared; with 0, an answer that always won has no finite strength."""
    either = np.swapaxes(wins, -1, -2)
    table = wins + ties_before / 2 * (wins + either > 0)
    table = table * (1 - np.eye(table.shape[-1]))
    met, won = table + np.swapaxes(table, -1, -2), table.sum(axis=-1)
    strength = np.ones(won.shape)
    for _ in range(_ROUNDS):
        expected = np.sum(met / (strength[..., :, None] + strength[..., None, :]), axis=-1)
        renewed = np.divide(won, expected, out=strength.copy(), where=won > 0)
        renewed /= np.exp(np.mean(np.log(renewed), axis=-1, keepdims=True))
        moved = float(np.max(np.abs(np.log(renewed / strength)), initial=0.0))
        strength = renewed
        if moved < _CLOSE:
            break
    return np.asarray(np.log(strength))


def elo(comparisons: list[Floats], seed: int = 0, resamples: int = 1000) -> list[Strength]:
    """Each answer's strength from ``comparisons``, one table [winner, loser] per row of the input
    (all comparisons about it), with bootstrap intervals. Rows are resampled as a whole: comparisons
    of one row depend on each other."""
    tables = np.array(comparisons)
    rows = len(tables)
    best = ELO * bradley_terry(tables.sum(axis=0))
    random = np.random.default_rng(seed)
    drawn = random.multinomial(rows, np.full(rows, 1 / rows), resamples).astype(float)
    again = ELO * bradley_terry(np.tensordot(drawn, tables, axes=1))
    low, high = np.quantile(again, [0.025, 0.975], axis=0)
    return [
        Strength(float(b), float(lo), float(hi)) for b, lo, hi in zip(best, low, high, strict=True)
    ]
