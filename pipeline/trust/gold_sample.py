"""True labels of some rows, and how those were drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class GoldSample:
    """Gold rows [gold rows]: where each is among all rows, the index of its true choice, the
    probability with which it was drawn (nan: not known, as with a column of true labels, which
    counts as drawn at random), and whether it was drawn at random: all rows alike."""

    rows: NDArray[np.int64]
    values: NDArray[np.int64]
    inclusion_probabilities: NDArray[np.float64]
    random: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)

    @staticmethod
    def at_random(rows: NDArray[np.int64], values: NDArray[np.int64]) -> GoldSample:
        """Gold rows of which nothing else is known."""
        return GoldSample(rows, values, np.full(len(rows), np.nan), np.ones(len(rows), bool))

    def in_order(self) -> GoldSample:
        """By where they are among all rows: sums depend on the order in their last bits."""
        order = np.argsort(self.rows, kind="stable")
        return GoldSample(
            self.rows[order],
            self.values[order],
            self.inclusion_probabilities[order],
            self.random[order],
        )

    def weights(self, of: int) -> NDArray[np.float64] | None:
        """How many of all the rows (``of``) each gold row stands for; None if all the same. Of rows
        from two draws, with known probabilities and with none, either draw stands for all rows;
        they share them as many rows drawn alike as each is worth (Kish 1965): five reviewed rows
        beside five hundred others do not count for half."""
        known = ~np.isnan(self.inclusion_probabilities)
        if not known.any():
            return None
        drawn = 1 / self.inclusion_probabilities[known]
        worth = float(drawn.sum() ** 2 / np.sum(drawn**2))
        alike = len(self) - int(known.sum())
        weights = np.full(len(self), of / (worth + alike))
        weights[known] = drawn if not alike else weights[known] * worth * drawn / drawn.sum()
        return None if np.ptp(weights) <= 1e-9 * weights.max() else weights
