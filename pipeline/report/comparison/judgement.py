"""Which outputs' answers a judge found better, from verdicts in both orders. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.comparison.intervals import Share
from pipeline.trust.preference import Strength, elo

FIRST, SECOND, TIE = "A", "B", "tie"  # what a judge says of two answers in the order it saw them
VERDICTS = (FIRST, SECOND, TIE)


@dataclass(frozen=True)
class Pairing:
    """Two answers to one row, by the numbers of their outputs, and what was said of them.

    ``verdicts``: with ``one`` shown first, and with ``other`` shown first; None: the answers are
    the same, which is a tie.
    """

    row: int
    one: int
    other: int
    verdicts: tuple[str, str] | None


@dataclass(frozen=True)
class Meeting:
    """How two outputs did against each other, in rows. ``unlike``: the better one changed with the
    order in which they were shown, so that it is a tie; they are among the ``ties``."""

    one: int
    other: int
    wins: int
    losses: int
    ties: int
    unlike: int

    @property
    def rows(self) -> int:
        return self.wins + self.losses + self.ties


@dataclass(frozen=True)
class Judgement:
    """``strengths``: of each output, on Elo's scale. ``shown_first``: how often the answer that was
    shown first was called better, of all verdicts for one of two; a half: no bias."""

    strengths: tuple[Strength, ...]
    meetings: tuple[Meeting, ...]
    shown_first: Share

    def as_json(self) -> dict[str, Any]:
        return {
            "strengths": [vars(one) for one in self.strengths],
            "meetings": [vars(one) | {"rows": one.rows} for one in self.meetings],
            "shown_first": {
                "verdicts": self.shown_first.whole,
                "value": self.shown_first.value if self.shown_first.whole else None,
                "low": self.shown_first.bounds[0],
                "high": self.shown_first.bounds[1],
            },
        }


def judge_pairings(pairings: Sequence[Pairing], outputs: int) -> Judgement:
    """``pairings``: at least one."""
    tables: dict[int, np.ndarray[Any, np.dtype[np.float64]]] = {}
    meetings: dict[tuple[int, int], list[Pairing]] = {}
    first = decided = 0
    for pairing in pairings:
        table = tables.setdefault(pairing.row, np.zeros((outputs, outputs)))
        for wins in _wins(pairing):
            table[pairing.one, pairing.other] += wins / 2
            table[pairing.other, pairing.one] += (1 - wins) / 2
        meetings.setdefault((pairing.one, pairing.other), []).append(pairing)
        for verdict in pairing.verdicts or ():
            decided += verdict != TIE
            first += verdict == FIRST
    return Judgement(
        tuple(elo(list(tables.values()))),
        tuple(_meeting(*between, of) for between, of in sorted(meetings.items())),
        Share(first, decided),
    )


def _wins(pairing: Pairing) -> tuple[float, float]:
    """What ``one`` gets of each of the two verdicts: all, half or nothing of it."""
    if pairing.verdicts is None:
        return 0.5, 0.5
    seen_first, seen_second = pairing.verdicts
    return (
        {FIRST: 1.0, SECOND: 0.0, TIE: 0.5}[seen_first],
        {FIRST: 0.0, SECOND: 1.0, TIE: 0.5}[seen_second],
    )


def _meeting(one: int, other: int, pairings: Sequence[Pairing]) -> Meeting:
    sums = [sum(_wins(pairing)) for pairing in pairings]
    unlike = sum(sorted(_wins(pairing)) == [0.0, 1.0] for pairing in pairings)
    wins, losses = sum(s > 1 for s in sums), sum(s < 1 for s in sums)
    return Meeting(one, other, wins, losses, len(sums) - wins - losses, unlike)
