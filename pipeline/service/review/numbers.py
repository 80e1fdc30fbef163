"""The results of the answers so far, for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pipeline.output.reviews.answers import Place, ReviewerAnswer
from pipeline.output.reviews.gold import agreed_gold
from pipeline.report.comparison.intervals import Share
from pipeline.service.review.material import Material
from pipeline.trust.agreement import cohen_kappa, krippendorff_alpha

_Key = TypeVar("_Key")


@dataclass(frozen=True)
class Agreement:
    """``kappa``, ``alpha``: Cohen's and Krippendorff's; None if there is nothing to compare.
    ``both``: how many items have the answers of two or more reviewers."""

    kappa: float | None
    alpha: float | None
    both: int


@dataclass(frozen=True)
class Numbers:
    """``right``: the share that the model has right of the rows that were drawn at random and on
    which reviewers agree; None if there are none. ``reviewers``: rows answered by each."""

    right: Share | None
    reviewers: Mapping[str, int]
    agreement: Agreement


def numbers_of(
    material: Material, answers: Mapping[str, Mapping[Place, ReviewerAnswer]]
) -> Numbers:
    """``answers``: the current ones, by reviewer."""
    gold = agreed_gold(material.sample, answers, material.question.choices)
    judged = [
        material.rows[g.shard, g.row].answer == g.value
        for g in gold
        if g.random and (g.shard, g.row) in material.rows
    ]
    places = [row.place for row in material.sample.rows]
    right = Share(sum(judged), len(judged)) if judged else None
    return Numbers(
        right, counts_of(answers, places), agreement(answers, places, material.question.choices)
    )


def counts_of(
    answers: Mapping[str, Mapping[_Key, ReviewerAnswer]], keys: Sequence[_Key]
) -> dict[str, int]:
    """For each reviewer who has answered any of ``keys``, how many."""
    counts = {name: sum(key in given for key in keys) for name, given in answers.items()}
    return {name: count for name, count in counts.items() if count}


def agreement(
    answers: Mapping[str, Mapping[_Key, ReviewerAnswer]],
    keys: Sequence[_Key],
    choices: Sequence[str],
) -> Agreement:
    """How far the reviewers who have answered any of ``keys`` agree; "unsure" does not count."""
    given = [answers[name] for name in counts_of(answers, keys)]
    if len(given) < 2:
        return Agreement(None, None, 0)
    number = {choice: at for at, choice in enumerate(choices)}
    said = [[one.get(key) for key in keys] for one in given]
    ratings = np.array([[number.get(a.value or "", -1) if a else -1 for a in one] for one in said])
    both = ratings[:, (ratings >= 0).sum(axis=0) > 1]
    kappa = cohen_kappa(both[0], both[1]) if len(both) == 2 else None
    return Agreement(kappa, krippendorff_alpha(ratings), both.shape[1])


def compared(reviewers: Mapping[str, int], agreed: Agreement, things: str) -> list[tuple[str, str]]:
    """What the page says about several reviewers."""
    found = []
    if len(reviewers) > 1:
        found.append(("reviewers", ", ".join(f"{name} {n}" for name, n in reviewers.items())))
    if agreed.kappa is not None:
        found.append(("Cohen's κ", f"{agreed.kappa:.2f} on {agreed.both} {things}"))
    if agreed.alpha is not None:
        found.append(("Krippendorff's α", f"{agreed.alpha:.2f}"))
    return found
