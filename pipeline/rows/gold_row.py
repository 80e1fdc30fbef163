"""A row whose right answer is known."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GoldRow:
    """Row ``row`` of the input file ``shard`` (by its name in the output), and the right choice.

    ``inclusion_probability``: of this row among those that people were asked about; None if it was
    not drawn (a column, a file). ``random``: it belongs to a simple random sample; otherwise it was
    chosen because the model was uncertain, and has the weight 1 over the probability.
    """

    shard: str
    row: int
    value: str
    inclusion_probability: float | None = None
    random: bool = True
