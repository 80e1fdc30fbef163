"""Whether the rows of a run still have the distribution of those of an earlier run."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from pipeline.trust.arrays import Floats, Ints

# The level of both tests together, and the least difference that matters: among millions of rows,
# every difference is significant.
SIGNIFICANT = 0.01
MATTERS = 0.05
_FEW = 5  # expected rows of a label in a run; with fewer, chi-square's distribution does not hold
_DRAWS = 4999


@dataclass(frozen=True)
class Drift:
    """How far two runs differ, 0 (not at all) to 1. ``confidences``: the largest difference of
    their distribution functions; ``shares``: half the sum of the differences of the labels' shares.
    ``…_chance``: the probability of such a difference by chance (Kolmogorov's and Smirnov's test;
    chi-square)."""

    confidences: float
    confidences_chance: float
    shares: float
    shares_chance: float

    @property
    def found(self) -> bool:
        """Whether a promise for the earlier run does not hold for the later one: confidences or
        shares differ by more than chance explains (two tests: half the level for each), and by
        enough to matter."""
        return any(
            distance > MATTERS and chance < SIGNIFICANT / 2
            for distance, chance in (
                (self.confidences, self.confidences_chance),
                (self.shares, self.shares_chance),
            )
        )

    def as_json(self) -> dict[str, float | bool]:
        return {"found": self.found, **asdict(self)}


def drift(before: Floats, after: Floats, labels_before: Ints, labels_after: Ints) -> Drift:
    """The drift between two runs, from the confidences [rows] and the number of rows with each
    label [choices] of each. Both runs have rows, and both are judged with the same calibration."""
    # half a second to load, and few runs are compared
    from scipy.stats import ks_2samp

    apart = ks_2samp(before, after, method="asymp")
    table = np.array([labels_before, labels_after], float)
    table = table[:, table.sum(axis=0) > 0]
    shares = table / table.sum(axis=1, keepdims=True)
    return Drift(
        float(apart.statistic),
        float(apart.pvalue),
        float(np.abs(shares[0] - shares[1]).sum() / 2),
        _chance(table) if table.shape[1] > 1 else 1.0,
    )


def _chance(table: Floats) -> float:
    """The chi-square test of whether two runs [2, labels] have the same shares of labels. If a
    label is rare in one of them, its distribution is found by permuting the rows of both."""
    from scipy.stats import chi2_contingency

    found = chi2_contingency(table, correction=False)
    if found.expected_freq.min() >= _FEW:
        return float(found.pvalue)
    every = table.sum(axis=0).astype(np.int64)
    dealt = np.random.default_rng(0).multivariate_hypergeometric(
        every, int(table[0].sum()), _DRAWS, method="marginals"
    )
    expected = found.expected_freq
    # what one run has too many of, the other has too few of
    apart = (dealt - expected[0]) ** 2 @ (1 / expected[0] + 1 / expected[1])
    return float((1 + np.sum(apart >= found.statistic * (1 - 1e-9))) / (_DRAWS + 1))
