"""Which outputs have the better answers, as judged by a model that saw each pair in both orders, or
by people who saw it in one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.comparison.intervals import Share
from pipeline.trust.preference import Strength, elo

FIRST, SECOND, TIE = "A", "B", "tie"  # what a judge says of two answers in the order it saw them
CRITERIA = "Which answer is better: more right, and more helpful?"
VERDICTS = (FIRST, SECOND, TIE)


@dataclass(frozen=True)
class Verdict:
    """``said``: A, B or tie, for two answers in the order in which they were shown. ``one_first``:
    whether the pairing's ``one`` was shown first."""

    said: str
    one_first: bool

    @property
    def score(self) -> float:
        """The part that ``one`` gets: all, half or nothing."""
        if self.said == TIE:
            return 0.5
        return float((self.said == FIRST) is self.one_first)


@dataclass(frozen=True)
class Pairing:
    """Two answers to one row, by the numbers of their outputs, and the verdicts on them: of a model
    in both orders, or of each person in one. No ``verdicts``: the answers are the same, which is a
    tie."""

    row: int
    one: int
    other: int
    verdicts: tuple[Verdict, ...] = ()

    @property
    def score(self) -> float:
        """What ``one`` gets: the mean of all verdicts."""
        scores = [verdict.score for verdict in self.verdicts]
        return sum(scores) / len(scores) if scores else 0.5


@dataclass(frozen=True)
class Meeting:
    """How two outputs did against each other, in rows. ``unlike``: those of the ``ties`` in which
    verdicts contradict each other (a model's when the order of the answers changes, or
    people's)."""

    one: int
    other: int
    wins: int
    losses: int
    ties: int
    unlike: int

    @property
    def rows(self) -> int:
        return self.wins + self.losses + self.ties

    @property
    def won(self) -> Share:
        """The share that ``one`` won of the rows that are no ties."""
        return Share(self.wins, self.wins + self.losses)


@dataclass(frozen=True)
class Judgement:
    """``strengths``: of each output, on Elo's scale. ``shown_first``: how often the answer shown
    first was called better, among verdicts that are no tie; a half: no bias."""

    strengths: tuple[Strength, ...]
    meetings: tuple[Meeting, ...]
    shown_first: Share

    def as_json(self) -> dict[str, Any]:
        return {
            "strengths": [vars(one) for one in self.strengths],
            "meetings": [
                vars(one) | {"rows": one.rows, "won": _share(one.won)} for one in self.meetings
            ],
            "shown_first": {"verdicts": self.shown_first.whole} | _share(self.shown_first),
        }


def judge_pairings(pairings: Sequence[Pairing], outputs: int) -> Judgement:
    """``pairings``: at least one."""
    tables: dict[int, np.ndarray[Any, np.dtype[np.float64]]] = {}
    meetings: dict[tuple[int, int], list[Pairing]] = {}
    first = decided = 0
    for pairing in pairings:
        table = tables.setdefault(pairing.row, np.zeros((outputs, outputs)))
        table[pairing.one, pairing.other] += pairing.score
        table[pairing.other, pairing.one] += 1 - pairing.score
        meetings.setdefault((pairing.one, pairing.other), []).append(pairing)
        for verdict in pairing.verdicts:
            decided += verdict.said != TIE
            first += verdict.said == FIRST
    return Judgement(
        tuple(elo(list(tables.values()))),
        tuple(_meeting(*between, of) for between, of in sorted(meetings.items())),
        Share(first, decided),
    )


def _meeting(one: int, other: int, pairings: Sequence[Pairing]) -> Meeting:
    scores = [pairing.score for pairing in pairings]
    unlike = sum(
        pairing.score == 0.5 and any(v.said != TIE for v in pairing.verdicts)
        for pairing in pairings
    )
    wins, losses = sum(s > 0.5 for s in scores), sum(s < 0.5 for s in scores)
    return Meeting(one, other, wins, losses, len(scores) - wins - losses, unlike)


def _share(share: Share) -> dict[str, float | None]:
    low, high = share.bounds
    return {"value": share.value if share.whole else None, "low": low, "high": high}
