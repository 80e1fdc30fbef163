"""A review session in which one reviewer says which label is right, for the sample of an output."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.output.columns.probabilities import WRITTEN
from pipeline.output.reviews.answers import Place, ReviewerAnswer, of_question
from pipeline.output.reviews.draw import ShownRow, rows_at
from pipeline.output.reviews.gold import agreed_gold
from pipeline.output.reviews.question import LABEL, ReviewQuestion, question_of
from pipeline.output.reviews.sample import ReviewSample
from pipeline.output.reviews.samples import sample_for
from pipeline.output.rows.stored_rows import StoredRows
from pipeline.output.runs.status import need_finished
from pipeline.report.comparison.intervals import Share
from pipeline.service.review.agreement import Agreement, agreement
from pipeline.service.review.session import AnswersByReviewer, ReviewSession
from pipeline.storage.base import Storage, open_storage


@dataclass(frozen=True)
class Material:
    """What is reviewed. ``rows``: the rows of the sample that are in the output."""

    storage: Storage
    question: ReviewQuestion
    sample: ReviewSample
    rows: Mapping[Place, ShownRow]

    @property
    def output(self) -> str:
        return self.storage.address()


def open_material(
    output: str,
    question: str | None,
    rows: int | None,
    note: Callable[[str], None] = lambda line: None,
) -> Material:
    """The sample of ``output``; it is drawn if there is none, or if more ``rows`` are asked for.
    ``note`` gets a line before something that takes long.

    Raises UsageError if the output cannot be reviewed, AlreadyRunning if it is being written.
    """
    stored = StoredRows(output)
    need_finished(output, note)
    asked = question_of(stored, question)
    storage = open_storage(output)
    sample = sample_for(storage, stored, asked, rows)
    shown = rows_at(stored, asked, {r.place for r in sample.rows})
    if shown and asked.probabilities and all(row.confidence is None for row in shown.values()):
        note(f"{WRITTEN}: the sample is drawn by chance alone")
    return Material(storage, asked, sample, shown)


@dataclass(frozen=True)
class Numbers:
    """``right``: the share that the model has right of the rows that were drawn at random and on
    which reviewers agree; None if there are none."""

    right: Share | None
    agreement: Agreement


def numbers_of(
    material: Material, answers: Mapping[str, Mapping[Place, ReviewerAnswer]]
) -> Numbers:
    """``answers``: the current ones, by reviewer."""
    gold = agreed_gold(material.sample, answers, material.question.choices)
    judged = [
        material.rows[g.shard, g.row].answer == g.value
        for g in gold
        if g.random and (g.shard, g.row) in material.rows
    ]
    places = [row.place for row in material.sample.rows]
    right = Share(sum(judged), len(judged)) if judged else None
    return Numbers(right, agreement(answers, places, material.question.choices))


class LabelSession(ReviewSession):
    """A reviewer of labels."""

    template = "labels.html"

    def __init__(self, material: Material, reviewer: str) -> None:
        """Raises UsageError if ``reviewer`` is not a possible file name."""
        self.material = material
        self.title, self.subject = material.output, material.question.name
        self.places = [r.place for r in material.sample.rows if r.place in material.rows]
        keys = [(material.question.name, place) for place in self.places]
        super().__init__(material.storage, keys, material.question.choices, reviewer)

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
        name = self.material.question.name
        numbers = numbers_of(self.material, of_question(by_reviewer, name))
        found = []
        if (right := numbers.right) is not None:
            low, high = right.bounds
            said = f"{right.value:.0%} ({low:.0%}–{high:.0%}) of {right.whole} random rows"
            found.append(("the model is right", said))
        return found + numbers.agreement.lines("rows")

    def answers(self) -> dict[str, dict[Place, ReviewerAnswer]]:
        """The current answers of all reviewers to this question. Raises StorageFailed."""
        return self.kept.current(self.material.question.name)

    def own(self) -> dict[Place, ReviewerAnswer]:
        return self.answers().get(self.reviewer, {})

    def as_json(self) -> dict[str, Any]:
        """What ``rackmill review --json`` prints. Raises StorageFailed."""
        answers = self.answers()
        own = [
            a for place, a in answers.get(self.reviewer, {}).items() if place in self.material.rows
        ]
        numbers = numbers_of(self.material, answers)
        return {
            "output": self.material.output,
            "question": self.material.question.name,
            "reviewer": self.reviewer,
            "saved_now": self.saved,
            "answered": len(own),
            "unsure": sum(a.value is None for a in own),
            "rows": len(self.places),
            "reviewers": dict(numbers.agreement.reviewers),
            "accuracy": numbers.right.as_json() if numbers.right else None,
            "kappa": numbers.agreement.kappa,
            "alpha": numbers.agreement.alpha,
            "go_on": self.command() if len(own) < len(self.places) else None,
        }
