"""One reviewer who is asked about one thing after another, whatever it is."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from pipeline.errors import UsageError
from pipeline.output.reviews.answers import Key, ReviewAnswers, ReviewerAnswer, check_reviewer
from pipeline.storage.base import Storage

AnswersByReviewer = Mapping[str, Mapping[Key, ReviewerAnswer]]  # by reviewer, what stands


def now_in_iso() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class View:
    """What the page shows. ``number``: of what is asked about, None: all is answered. ``done``:
    answers of this reviewer, of ``total``. ``lines``: what is known so far, a name and what it is.
    ``facts``: what the session's template has besides."""

    number: int | None
    done: int
    total: int
    lines: Sequence[tuple[str, str]]
    facts: Mapping[str, object]


class ReviewSession(ABC):
    """``keys``: of what is asked, in this order. ``choices``: the answers to it, besides unsure.
    ``shown``: the model's answers are shown beside what is asked. ``title``, ``subject``: what the
    page has above all, and which question it is ("": there is one alone)."""

    template: ClassVar[str]  # a file beside this one
    title: str
    subject: str = ""

    def __init__(
        self,
        storage: Storage,
        keys: Sequence[Key],
        choices: tuple[str, ...],
        reviewer: str,
        now: Callable[[], str] = now_in_iso,
    ) -> None:
        """Answers lie beside the output at ``storage``. Raises UsageError for a ``reviewer`` whose
        name is no name for a file."""
        self.reviewer = check_reviewer(reviewer)
        self.keys, self.choices = list(keys), choices
        self.shown = False
        self.kept = ReviewAnswers(storage)
        self.now = now
        self._guard = threading.Lock()
        self._saved = 0

    @abstractmethod
    def texts(self, number: int) -> Sequence[tuple[str, str]]:
        """What there is to read of the thing with this number: names and texts."""

    @abstractmethod
    def command(self, rows: int | None = None) -> str:
        """That goes on with this session; with so many ``rows``."""

    @abstractmethod
    def lines(self, by_reviewer: AnswersByReviewer) -> list[tuple[str, str]]:
        """What is known so far, as ``View`` has it."""

    @abstractmethod
    def facts(self, number: int | None, by_reviewer: AnswersByReviewer) -> Mapping[str, object]:
        """What the template has besides, as ``View`` has it."""

    @property
    def saved(self) -> int:
        """Answers that were given here, those that were taken back left out."""
        return self._saved

    def by_reviewer(self) -> dict[str, dict[Key, ReviewerAnswer]]:
        """Of all reviewers, as they stand now. Raises StorageFailed."""
        return self.kept.by_reviewer()

    def view(self) -> View:
        """As things stand now. Raises StorageFailed."""
        by_reviewer = self.by_reviewer()
        own = by_reviewer.get(self.reviewer, {})
        number = next((n for n, key in enumerate(self.keys) if key not in own), None)
        done = sum(key in own for key in self.keys)
        facts = self.facts(number, by_reviewer)
        return View(number, done, len(self.keys), self.lines(by_reviewer), facts)

    def answer(self, number: int, value: str | None) -> None:
        """Keep ``value`` (None: unsure) for the thing with this number. The same answer once more,
        as a page sends it that never heard of the first, changes nothing.

        Raises UsageError for a number or a value that is none, CommitFailed where it is not kept.
        """
        if not 0 <= number < len(self.keys):
            raise UsageError(f"there is no number {number + 1} of {len(self.keys)}")
        if value is not None and value not in self.choices:
            raise UsageError("that is not one of the choices")
        key = self.keys[number]
        with self._guard:
            before = self._own().get(key)
            if before is not None and before.value == value:
                return
            self._append(key, value)
            self._saved += before is None

    def undo(self) -> int | None:
        """Take the last answer back; its number, None where there is none."""
        with self._guard:
            known = {key: number for number, key in enumerate(self.keys)}
            last = next((key for key in reversed(self._own()) if key in known), None)
            if last is None:
                return None
            self._append(last, None, undone=True)
            self._saved -= 1
            return known[last]

    def _own(self) -> dict[Key, ReviewerAnswer]:
        return self.by_reviewer().get(self.reviewer, {})

    def _append(self, key: Key, value: str | None, *, undone: bool = False) -> None:
        question, place = key
        given = ReviewerAnswer(
            question, *place, value, self.now(), undone, self.shown and not undone
        )
        self.kept.append(self.reviewer, given)
