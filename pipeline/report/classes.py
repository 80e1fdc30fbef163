"""How well each class was recognised. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ClassQuality:
    """``gold``: rows whose right answer it is; ``labelled``: rows that got it; ``right``: both."""

    name: str
    gold: int
    labelled: int
    right: int

    @property
    def precision(self) -> float | None:
        """Of the rows with this label, the share for which it is right; None for no such row."""
        return self.right / self.labelled if self.labelled else None

    @property
    def recall(self) -> float | None:
        """Of the rows whose right answer it is, the share that got it; None for no such row."""
        return self.right / self.gold if self.gold else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of both."""
        both = self.gold + self.labelled
        return 2 * self.right / both if both else None


def per_class(confusion: Mapping[str, Mapping[str, int]]) -> list[ClassQuality]:
    """One for every class that is a right answer or a label. ``confusion``: gold -> label ->
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
    """In a table: "93.4%", or a dash where nothing is known."""
    return "–" if share is None else f"{share:.1%}"
