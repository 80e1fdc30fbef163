"""The data that is exported and imported, independent of the file's format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.output.reviews.answers import ReviewerAnswer
from pipeline.output.reviews.draw import ShownRow
from pipeline.output.reviews.sample import SampledRow

MODEL = "rackmill"  # who suggests the model's answer
_NO_NAME = re.compile(r"[^\w.@+-]")


@dataclass(frozen=True)
class ExportedRow:
    """A row of the sample with all that is known about it. ``answers``: by reviewer."""

    asked: SampledRow
    shown: ShownRow
    answers: Mapping[str, ReviewerAnswer]

    @property
    def facts(self) -> dict[str, str | int | float]:
        """The row's place, and how it was drawn."""
        drawn = self.asked.drawn
        return {
            "file": drawn.shard,
            "row": drawn.row,
            "part": drawn.part,
            "inclusion_probability": self.asked.probability,
        }


@dataclass(frozen=True)
class ImportedAnswer:
    """An answer that was read. ``value`` None: unsure; ``reviewer`` None: not in the file;
    ``where``: its place in the file."""

    file: str
    row: int
    value: str | None
    reviewer: str | None
    where: str


def reviewer_called(name: object) -> str | None:
    """A file name for a reviewer with this name in another tool; None without a name."""
    if name is None or name == "":
        return None
    plain = _NO_NAME.sub("-", str(name)).lstrip("_.@+-")[:64]
    return plain or None
