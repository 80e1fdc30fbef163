"""How well each class was recognised. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ClassQuality:
    """``gold``: rows whose right answer is this class; ``labelled``: rows that got it as their
    label; ``right``: rows of which both are true."""

    name: str
    gold: int
    labelled: int
    right: int

    @property
    def precision(self) -> float | None:
        """Of the rows with this label, the share for which it is right; None without such rows."""
        return self.right / self.labelled if self.labelled else None

    @property
    def recall(self) -> float | None:
        """Of the rows whose right answer it is, the share that got it; None without such rows."""
        return self.right / self.gold if self.gold else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall."""
        both = self.gold + self.labelled
        return 2 * self.right / both if both else None


def per_class(confusion: Mapping[str, Mapping[str, int]]) -> list[ClassQuality]:
    """The quality of every class that is a right answer or a label. ``confusion``: gold -> label ->
    answers."""
    names = sorted({*confusion, *(label for row in confusion.values() for label in row)})
    return [
        ClassQuality(
            name,
            sum(confusion.get(name, {}).values()),
            sum(row.get(name, 0) for row in confusion.values()),
            confusion.get(name, {}).get(name, 0),
        )
        for name in names
    ]


def in_percent(share: float | None) -> str:
    """For a table: "93.4%", or a dash if nothing is known."""
    return "–" if share is None else f"{share:.1%}"
