"""A review session in which one reviewer says which of two answers is better, without knowing which
output each is from."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report.comparison.judgement import CRITERIA
from pipeline.service.review.numbers import Agreement, agreement, compared, counts_of
from pipeline.service.review.pair_material import CHOICES, DEFAULT_ROWS, PairMaterial
from pipeline.service.review.session import AnswersByReviewer, ReviewSession, now_in_iso
from pipeline.service.review.verdicts import CountedPairs, counted

_MORE = 50  # further rows that are proposed once all are judged


@dataclass(frozen=True)
class PairsResult:
    """``answered``: of ``pairs``, by this reviewer; ``reviewers``: by each. ``go_on``: the command
    that asks about the other pairs; None: all are answered."""

    counted: CountedPairs
    pairs: int
    answered: int
    reviewers: Mapping[str, int]
    agreement: Agreement
    go_on: str | None


class PairSession(ReviewSession):
    """A reviewer of pairs."""

    template = "pairs.html"
    title = "Which answer is better?"

    def __init__(
        self, material: PairMaterial, reviewer: str, now: Callable[[], str] = now_in_iso
    ) -> None:
        """Raises UsageError if ``reviewer`` is not a possible file name."""
        self.material = material
        self._pairs = list(material.asked.values())
        super().__init__(material.storage, list(material.asked), CHOICES, reviewer, now)

    def texts(self, number: int) -> Sequence[tuple[str, str]]:
        """What was asked; the answers come last."""
        left, right = self._pairs[number].sides
        return [*self._pairs[number].pair.texts.items(), ("answer 1", left), ("answer 2", right)]

    def command(self, rows: int | None = None) -> str:
        material = self.material
        words = ["rackmill", "judge", *material.outputs, "--human", "--reviewer", self.reviewer]
        if material.criteria != CRITERIA:
            words += ["--criteria", material.criteria]
        rows = material.wanted if rows is None else rows
        return shlex.join(words if rows == DEFAULT_ROWS else [*words, "--rows", str(rows)])

    def lines(self, by_reviewer: AnswersByReviewer) -> list[tuple[str, str]]:
        """How far reviewers agree. Not which output is ahead: that could reveal which output an
        answer is from."""
        keys = self.keys
        agreed = agreement(by_reviewer, keys, CHOICES)
        return compared(counts_of(by_reviewer, keys), agreed, "pairs")

    def result(self) -> PairsResult:
        """The current result. Raises StorageFailed."""
        by_reviewer, pairs = self.by_reviewer(), len(self.keys)
        reviewers = counts_of(by_reviewer, self.keys)
        answered = reviewers.get(self.reviewer, 0)
        return PairsResult(
            counted(self.material, by_reviewer),
            pairs,
            answered,
            reviewers,
            agreement(by_reviewer, self.keys, CHOICES),
            self.command() if answered < pairs else None,
        )

    def as_json(self) -> dict[str, Any]:
        """What ``rackmill judge --json`` prints; the judgement's fields are those of a model's, and
        null before there is a verdict."""
        found = self.result()
        counts, judgement = found.counted, found.counted.judgement
        nothing = dict.fromkeys(("strengths", "meetings", "shown_first"))
        return {
            "outputs": list(self.material.outputs),
            "criteria": self.material.criteria,
            "reviewer": self.reviewer,
            "saved_now": self.saved,
            "answered": found.answered,
            "pairs": found.pairs,
            "rows": counts.rows,
            "unsure": counts.unsure,
            "waiting": counts.waiting,
            "reviewers": dict(found.reviewers),
            "kappa": found.agreement.kappa,
            "alpha": found.agreement.alpha,
            "go_on": found.go_on,
        } | (judgement.as_json() if judgement else nothing)

    def facts(self, number: int | None, by_reviewer: AnswersByReviewer) -> Mapping[str, object]:
        material = self.material
        ended = number is None
        more = self.command(material.wanted + _MORE)
        return {
            "criteria": material.criteria,
            "judgement": counted(material, by_reviewer).judgement if ended else None,
            "outputs": material.outputs if ended else (),
            "more": more if ended and material.more else None,
        }
