"""A row whose right answer is known."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GoldRow:
    """Row ``row`` of the input file ``shard`` (as the output calls it), and the choice that is
    right.

    ``inclusion_probability``: that it came among those that were asked about; None where nobody
    drew it (a column, a file). ``random``: it belongs to a simple random sample; else it was asked
    about because the model was in doubt, and counts only with its weight, 1 over the probability.
    """

    shard: str
    row: int
    value: str
    inclusion_probability: float | None = None
    random: bool = True
