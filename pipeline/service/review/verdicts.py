"""What reviewers said about pairs of answers, counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.comparison.judgement import (
    FIRST,
    SECOND,
    Judgement,
    Pairing,
    Verdict,
    judge_pairings,
)
from pipeline.report.comparison.judgement import TIE as SAME
from pipeline.service.review.pair_material import LEFT, RIGHT, TIE, PairMaterial, ShownPair
from pipeline.service.review.session import AnswersByReviewer

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
