"""How the answers of one run differ from those of the runs before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence


def drift(labels: Mapping[str, int], earlier: Sequence[Mapping[str, int]]) -> float | None:
    """The total variation distance between the shares of the labels of a run and those of all
    earlier runs together: 0 (the same shares) to 1 (no label in common), half the sum of the
    differences. None where one of the two has no rows. Counts are rows."""
    before: Counter[str] = Counter()
    for one in earlier:
        before.update(one)
    rows, rows_before = sum(labels.values()), before.total()
    if not rows or not rows_before:
        return None
    names = labels.keys() | before.keys()
    return sum(abs(labels.get(n, 0) / rows - before[n] / rows_before) for n in names) / 2
