"""A review session in which one reviewer says which of two answers is better, without knowing which
output each is from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report.comparison.judgement import (
    CRITERIA,
    FIRST,
    SECOND,
    Judgement,
    Pairing,
    Verdict,
    judge_pairings,
)
from pipeline.report.comparison.judgement import TIE as SAME
from pipeline.service.review.agreement import Agreement, agreement
from pipeline.service.review.pair_material import (
    CHOICES,
    DEFAULT_ROWS,
    LEFT,
    RIGHT,
    TIE,
    PairMaterial,
    ShownPair,
)
from pipeline.service.review.session import AnswersByReviewer, ReviewSession

_MORE = 50  # further rows that are proposed once all are judged
_SAID = {LEFT: FIRST, RIGHT: SECOND, TIE: SAME}


@dataclass(frozen=True)
class CountedPairs:
    """``rows``: how many count. These are the rows before the first row with a pair that has no
    answer (how far people got must not select rows), without the ``unsure`` ones: rows with a pair
    on which no reviewer had a verdict. ``waiting``: answered pairs after that first row.
    ``judgement``: None before there is a verdict."""

    rows: int
    unsure: int
    waiting: int
    judgement: Judgement | None


def counted(material: PairMaterial, by_reviewer: AnswersByReviewer) -> CountedPairs:
    """``by_reviewer``: all that reviewers have answered, about these pairs and others."""
    pairings: list[Pairing] = []
    reached = rows = unsure = 0
    for row in material.rows:
        shown = material.shown(row)
        if not all(_answered(one, by_reviewer) for one in shown):
            break
        reached += 1
        verdicts = {(p.pair.one, p.pair.other): _verdicts(p, by_reviewer) for p in shown}
        if not all(verdicts.values()):
            unsure += 1
            continue
        rows += 1
        pairings += [
            Pairing(pair.row, pair.one, pair.other, verdicts.get((pair.one, pair.other), ()))
            for pair in row
        ]
    behind = {one.key for row in material.rows[reached:] for one in material.shown(row)}
    waiting = sum(any(key in given for given in by_reviewer.values()) for key in behind)
    known = any(pairing.verdicts for pairing in pairings)
    found = judge_pairings(pairings, len(material.outputs)) if known else None
    return CountedPairs(rows, unsure, waiting, found)


def _answered(shown: ShownPair, by_reviewer: AnswersByReviewer) -> bool:
    return any(shown.key in given for given in by_reviewer.values())


def _verdicts(shown: ShownPair, by_reviewer: AnswersByReviewer) -> tuple[Verdict, ...]:
    """The verdicts of reviewers who were not unsure."""
    values: Sequence[str | None] = [
        given[shown.key].value for given in by_reviewer.values() if shown.key in given
    ]
    return tuple(
        Verdict(_SAID[value], one_first=not shown.swapped) for value in values if value in _SAID
    )


@dataclass(frozen=True)
class PairsResult:
    """``answered``: pairs, by this reviewer. ``go_on``: the command that asks about the others;
    None: all are answered."""

    counted: CountedPairs
    answered: int
    agreement: Agreement
    go_on: str | None


class PairSession(ReviewSession):
    """A reviewer of pairs."""

    template = "pairs.html"
    title = "Which answer is better?"

    def __init__(self, material: PairMaterial, reviewer: str) -> None:
        """Raises UsageError if ``reviewer`` is not a possible file name."""
        self.material = material
        self._pairs = list(material.asked.values())
        super().__init__(material.storage, list(material.asked), CHOICES, reviewer)

    def texts(self, number: int) -> Sequence[tuple[str, str]]:
        """What was asked; the answers come last."""
        left, right = self._pairs[number].sides
        return [*self._pairs[number].pair.texts.items(), ("answer 1", left), ("answer 2", right)]

    def command(self, rows: int | None = None) -> str:
        material = self.material
        words = ["rackmill", "judge", *material.outputs, "--human", "--reviewer", self.reviewer]
        if material.criteria != CRITERIA:
            words += ["--criteria", material.criteria]
        rows = material.wanted if rows is None else rows
        return shlex.join(words if rows == DEFAULT_ROWS else [*words, "--rows", str(rows)])

    def lines(self, by_reviewer: AnswersByReviewer) -> list[tuple[str, str]]:
        """How far reviewers agree. Not which output is ahead: that could reveal which output an
        answer is from."""
        return agreement(by_reviewer, self.keys, CHOICES).lines("pairs")

    def result(self) -> PairsResult:
        """The current result. Raises StorageFailed."""
        by_reviewer = self.by_reviewer()
        agreed = agreement(by_reviewer, self.keys, CHOICES)
        answered = agreed.reviewers.get(self.reviewer, 0)
        go_on = self.command() if answered < len(self.keys) else None
        return PairsResult(counted(self.material, by_reviewer), answered, agreed, go_on)

    def as_json(self) -> dict[str, Any]:
        """What ``rackmill judge --json`` prints; the judgement's fields are those of a model's, and
        null before there is a verdict."""
        found = self.result()
        counts, judgement = found.counted, found.counted.judgement
        nothing = dict.fromkeys(("strengths", "meetings", "shown_first"))
        return {
            "outputs": list(self.material.outputs),
            "criteria": self.material.criteria,
            "reviewer": self.reviewer,
            "saved_now": self.saved,
            "answered": found.answered,
            "pairs": len(self.keys),
            "rows": counts.rows,
            "unsure": counts.unsure,
            "waiting": counts.waiting,
            "reviewers": dict(found.agreement.reviewers),
            "kappa": found.agreement.kappa,
            "alpha": found.agreement.alpha,
            "go_on": found.go_on,
        } | (judgement.as_json() if judgement else nothing)

    def facts(self, number: int | None, by_reviewer: AnswersByReviewer) -> Mapping[str, object]:
        material = self.material
        ended = number is None
        more = self.command(material.wanted + _MORE)
        return {
            "criteria": material.criteria,
            "judgement": counted(material, by_reviewer).judgement if ended else None,
            "outputs": material.outputs if ended else (),
            "more": more if ended and material.more else None,
        }
