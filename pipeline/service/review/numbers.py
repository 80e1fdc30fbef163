"""What the answers come to so far, for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pipeline.output.reviews.answers import Answer, Place
from pipeline.output.reviews.gold import settle
from pipeline.report.comparison.intervals import Share
from pipeline.service.review.session import Material
from pipeline.trust.agreement import cohen_kappa, krippendorff_alpha

_Key = TypeVar("_Key")


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
    right = Share(sum(judged), len(judged)) if judged else None
    kappa, alpha, both = agreement([answers[n] for n in counts], places, material.question.choices)
    return Numbers(right, counts, kappa, alpha, both)


def agreement(
    answers: Sequence[Mapping[_Key, Answer]], keys: Sequence[_Key], choices: Sequence[str]
) -> tuple[float | None, float | None, int]:
    """Cohen's kappa, Krippendorff's alpha, and how many of ``keys`` two or more have answered with
    a choice. ``answers``: of each reviewer."""
    if len(answers) < 2:
        return None, None, 0
    number = {choice: at for at, choice in enumerate(choices)}
    given = [[one.get(key) for key in keys] for one in answers]
    ratings = np.array([[number.get(a.value or "", -1) if a else -1 for a in one] for one in given])
    both = ratings[:, (ratings >= 0).sum(axis=0) > 1]
    kappa = cohen_kappa(both[0], both[1]) if len(both) == 2 else None
    return kappa, krippendorff_alpha(ratings), both.shape[1]
