"""What is asked of each row, with answers to choose among, and what its columns are called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pipeline.job.label import Graded

Kind = Literal["choice", "predicate", "score"]


@dataclass(frozen=True)
class AnswerColumns:
    """What the columns of one question are called. ``confidence``: of a predicate the probability
    of yes; ``expectation``: of a score alone."""

    answer: str
    confidence: str
    accepted: str
    raw_confidence: str
    probabilities: str
    expectation: str | None = None

    def __iter__(self) -> Iterator[str]:
        return (name for name in vars(self).values() if name is not None)


@dataclass(frozen=True)
class Asked:
    """One question of a job, as all that reads answers takes it."""

    name: str
    kind: Kind
    graded: Graded
    columns: AnswerColumns
    text: str | None = None  # None: the prompt says what is asked

    @property
    def gold_key(self) -> str:
        """Where a job file says where its right answers are."""
        return "label.gold" if self.text is None else f"questions.{self.name}.gold"

    @property
    def choices(self) -> tuple[str, ...]:
        """The answers there are: of a predicate no and yes, of a score its levels, lowest first."""
        return self.graded.options


# of a job with ``label.choices``
LABEL_COLUMNS = AnswerColumns("label", "confidence", "accepted", "raw_confidence", "probabilities")
