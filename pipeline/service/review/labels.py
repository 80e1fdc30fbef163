"""A review session in which one reviewer says which label is right, for the sample of an output."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence

from pipeline.output.reviews.answers import Place, ReviewerAnswer, of_question
from pipeline.output.reviews.question import LABEL
from pipeline.service.review.material import Material
from pipeline.service.review.numbers import Numbers, compared, numbers_of
from pipeline.service.review.session import AnswersByReviewer, ReviewSession, now_in_iso


class LabelSession(ReviewSession):
    """A reviewer of labels."""

    template = "labels.html"

    def __init__(
        self, material: Material, reviewer: str, now: Callable[[], str] = now_in_iso
    ) -> None:
        """Raises UsageError if ``reviewer`` is not a possible file name."""
        self.material = material
        self.title, self.subject = material.output, material.question.name
        self.places = [r.place for r in material.sample.rows if r.place in material.rows]
        keys = [(material.question.name, place) for place in self.places]
        super().__init__(material.storage, keys, material.question.choices, reviewer, now)

    def texts(self, number: int) -> Sequence[tuple[str, str]]:
        return list(self.material.rows[self.places[number]].texts.items())

    def command(self, rows: int | None = None) -> str:
        words = ["rackmill", "review", self.material.output]
        if self.material.question.name != LABEL:
            words += ["--question", self.material.question.name]
        words += ["--reviewer", self.reviewer]
        return shlex.join(words if rows is None else [*words, "--rows", str(rows)])

    def facts(self, number: int | None, _: AnswersByReviewer) -> Mapping[str, object]:
        total = len(self.places)
        left = self.material.sample.population - total
        return {
            "question": self.material.question,
            "row": None if number is None else self.material.rows[self.places[number]],
            "use": shlex.join(["rackmill", "trust", self.material.output]),
            "more": self.command(total + min(100, left)) if left > 0 else None,
        }

    def lines(self, by_reviewer: AnswersByReviewer) -> list[tuple[str, str]]:
        return _lines(
            numbers_of(self.material, of_question(by_reviewer, self.material.question.name))
        )

    def answers(self) -> dict[str, dict[Place, ReviewerAnswer]]:
        """The current answers of all reviewers to this question. Raises StorageFailed."""
        return self.kept.current(self.material.question.name)

    def own(self) -> dict[Place, ReviewerAnswer]:
        return self.answers().get(self.reviewer, {})


def _lines(numbers: Numbers) -> list[tuple[str, str]]:
    found = []
    if numbers.right is not None:
        low, high = numbers.right.bounds
        found.append(
            (
                "the model is right",
                f"{numbers.right.value:.0%} ({low:.0%}–{high:.0%}) of "
                f"{numbers.right.whole} random rows",
            )
        )
    return found + compared(numbers.reviewers, numbers.agreement, "rows")
