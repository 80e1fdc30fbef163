"""Sets of labels that contain the true one with a promised probability."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipeline.trust.arrays import Bools, Floats, Ints


@dataclass(frozen=True)
class LabelSets:
    """A choice belongs to a row's set if its probability is at least the choice's entry in
    ``least_probability``; 0 (in every set) if too few gold rows have this choice."""

    miss: float
    least_probability: tuple[float, ...]

    def of(self, probabilities: Floats) -> Bools:
        """Which choices belong to each row's set [rows, choices]; sets may be empty."""
        return np.asarray(probabilities >= np.array(self.least_probability) - 1e-12)


def label_sets(probabilities: Floats, gold: Ints, miss: float = 0.1) -> LabelSets:
    """Sets that, for each choice, miss it in at most the share ``miss`` of its rows, as long as new
    rows have the distribution of the gold rows: split conformal prediction by class (Vovk 2012).
    ``probabilities`` [rows, choices]: of gold rows drawn at random, by a fit that did not see them.
    Of n gold rows of a choice, the ceil((n + 1)(1 - miss))-th likeliest is the limit."""
    least = []
    for choice in range(probabilities.shape[1]):
        of = np.sort(probabilities[gold == choice, choice])[::-1]
        place = math.ceil((len(of) + 1) * (1 - miss) - 1e-9)
        least.append(float(of[place - 1]) if 1 <= place <= len(of) else 0.0)
    return LabelSets(miss, tuple(least))
