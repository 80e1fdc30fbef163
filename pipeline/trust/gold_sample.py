"""True labels of some rows, and how these rows were drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.trust.arrays import Bools, Floats, Ints


@dataclass(frozen=True)
class GoldSample:
    """Arrays [gold rows]. ``rows``: where each is among all rows. ``values``: the index of its true
    choice. ``inclusion_probabilities``: with which it was drawn; nan: not known, as for a column of
    true labels, which counts as drawn at random. ``random``: whether it was drawn at random, with
    the same probability as all rows."""

    rows: Ints
    values: Ints
    inclusion_probabilities: Floats
    random: Bools

    def __len__(self) -> int:
        return len(self.rows)

    @staticmethod
    def at_random(rows: Ints, values: Ints) -> GoldSample:
        """Gold rows about which nothing else is known."""
        return GoldSample(rows, values, np.full(len(rows), np.nan), np.ones(len(rows), bool))

    def in_order(self) -> GoldSample:
        """Sorted by their place among all rows: the last bits of sums depend on the order."""
        order = np.argsort(self.rows, kind="stable")
        return GoldSample(*(one[order] for one in vars(self).values()))

    def weights(self, of: int) -> Floats | None:
        """How many of all the rows (``of``) each gold row stands for; None if all weights are
        equal. With two draws, one with known probabilities and one without, each could stand for
        all rows; they are shared in proportion to the effective sizes of the draws (Kish 1965):
        five reviewed rows beside five hundred others do not count for half."""
        known = ~np.isnan(self.inclusion_probabilities)
        if not known.any():
            return None
        drawn = 1 / self.inclusion_probabilities[known]
        worth = float(drawn.sum() ** 2 / np.sum(drawn**2))
        alike = len(self) - int(known.sum())
        weights = np.full(len(self), of / (worth + alike))
        weights[known] = drawn if not alike else weights[known] * worth * drawn / drawn.sum()
        return None if np.ptp(weights) <= 1e-9 * weights.max() else weights
