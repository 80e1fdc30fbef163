"""How far reviewers agree, for the page and for what the commands print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pipeline.output.reviews.answers import ReviewerAnswer
from pipeline.trust.agreement import cohen_kappa, krippendorff_alpha

_Key = TypeVar("_Key")


@dataclass(frozen=True)
class Agreement:
    """``reviewers``: those who have answered any item, and how many. ``kappa``, ``alpha``: Cohen's
    and Krippendorff's; None if there is nothing to compare. ``both``: how many items have the
    answers of two or more reviewers."""

    reviewers: Mapping[str, int]
    kappa: float | None = None
    alpha: float | None = None
    both: int = 0

    def lines(self, things: str) -> list[tuple[str, str]]:
        """What is said about several reviewers of ``things`` ("rows")."""
        found = []
        if len(self.reviewers) > 1:
            each = ", ".join(f"{name} {n}" for name, n in self.reviewers.items())
            found.append(("reviewers", each))
        if self.kappa is not None:
            found.append(("Cohen's κ", f"{self.kappa:.2f} on {self.both} {things}"))
        if self.alpha is not None:
            found.append(("Krippendorff's α", f"{self.alpha:.2f}"))
        return found


def agreement(
    answers: Mapping[str, Mapping[_Key, ReviewerAnswer]],
    keys: Sequence[_Key],
    choices: Sequence[str],
) -> Agreement:
    """How far the reviewers who have answered any of ``keys`` agree; "unsure" does not count."""
    counts = {name: sum(key in given for key in keys) for name, given in answers.items()}
    reviewers = {name: count for name, count in counts.items() if count}
    if len(reviewers) < 2:
        return Agreement(reviewers)
    number = {choice: at for at, choice in enumerate(choices)}
    said = [[answers[name].get(key) for key in keys] for name in reviewers]
    ratings = np.array([[number.get(a.value or "", -1) if a else -1 for a in one] for one in said])
    both = ratings[:, (ratings >= 0).sum(axis=0) > 1]
    kappa = cohen_kappa(both[0], both[1]) if len(both) == 2 else None
    return Agreement(reviewers, kappa, krippendorff_alpha(ratings), both.shape[1])
