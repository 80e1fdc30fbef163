"""What the answers come to so far, for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.output.reviews.answers import Answer, Place
from pipeline.output.reviews.gold import settle
from pipeline.report.intervals import Share
from pipeline.service.review.session import Material


@dataclass(frozen=True)
class Numbers:
    """``right``: how many of the rows that were drawn at random, and that reviewers agree on, the
    model had right; None before there is one. ``reviewers``: rows that each has answered.
    ``kappa``, ``alpha``: None where there is nothing to compare; ``both``: rows that two or more
    have labelled."""

    right: Share | None
    reviewers: Mapping[str, int]
    kappa: float | None
    alpha: float | None
    both: int


def numbers_of(material: Material, answers: Mapping[str, Mapping[Place, Answer]]) -> Numbers:
    """``answers``: by reviewer, as they stand."""
    gold = settle(material.sample, answers, material.question.choices).gold
    judged = [
        material.rows[g.shard, g.row].answer == g.value
        for g in gold
        if g.random and (g.shard, g.row) in material.rows
    ]
    places = [row.place for row in material.sample.rows]
    counts = {name: sum(p in given for p in places) for name, given in answers.items()}
    counts = {name: count for name, count in counts.items() if count}
    rated = [
        [(a.value if (a := answers[name].get(p)) else None) for p in places] for name in counts
    ]
    both = [n for n in range(len(places)) if sum(one[n] is not None for one in rated) > 1]
    right = Share(sum(judged), len(judged)) if judged else None
    return Numbers(right, counts, None, None, len(both))
