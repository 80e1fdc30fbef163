"""How far reviewers agree, beyond agreement by chance."""

from __future__ import annotations

import numpy as np

from pipeline.trust.arrays import Ints


def cohen_kappa(first: Ints, second: Ints) -> float | None:
    """Cohen's kappa (1960) of two reviewers' choices [rows] for the same rows: 1 all the same, 0 as
    by chance. None without rows, or if both gave the same single choice for all rows."""
    if not len(first):
        return None
    choices = int(max(first.max(), second.max())) + 1
    agreed = float(np.mean(first == second))
    shares = [np.bincount(one, minlength=choices) / len(one) for one in (first, second)]
    by_chance = float(shares[0] @ shares[1])
    return (agreed - by_chance) / (1 - by_chance) if by_chance < 1 else None


def krippendorff_alpha(ratings: Ints) -> float | None:
    """Krippendorff's alpha (1970) of any number of reviewers' choices [reviewers, rows] (-1:
    missing): 1 all the same, 0 as by chance. Rows with one rating do not count. None if no row has
    two ratings, or all ratings are the same choice."""
    choices = int(ratings.max(initial=0)) + 1
    counts = np.array([np.sum(ratings == k, axis=0) for k in range(choices)])
    counts = counts[:, counts.sum(axis=0) >= 2]
    per_row, per_choice = counts.sum(axis=0), counts.sum(axis=1)
    total = int(per_row.sum())
    by_chance = total**2 - int(np.sum(per_choice.astype(np.int64) ** 2))
    if not by_chance:
        return None
    differing = (per_row**2 - np.sum(counts**2, axis=0)) / (per_row - 1)
    return 1 - (total - 1) * float(differing.sum()) / by_chance
