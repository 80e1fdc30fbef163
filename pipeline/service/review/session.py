"""A review session: one reviewer is asked about one item after another, of any kind."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from pipeline.errors import UsageError
from pipeline.output.reviews.answers import Key, ReviewAnswers, ReviewerAnswer, check_reviewer
from pipeline.storage.base import Storage

AnswersByReviewer = Mapping[str, Mapping[Key, ReviewerAnswer]]  # reviewer -> valid answers


def now_in_iso() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class View:
    """What the page shows. ``number``: of the item asked about; None: all are answered. ``done``:
    answers of this reviewer, of ``total``. ``lines``: what is known so far, as names and values.
    ``facts``: what else the session's template needs."""

    number: int | None
    done: int
    total: int
    lines: Sequence[tuple[str, str]]
    facts: Mapping[str, object]


class ReviewSession(ABC):
    """``keys``: of the items asked about, in order. ``choices``: possible answers, besides unsure.
    ``shown``: whether the model's answers are shown too. ``title``: the page's headline;
    ``subject``: which question it is ("": there is only one)."""

    template: ClassVar[str]  # a file in this folder
    title: str
    subject: str = ""

    def __init__(
        self,
        storage: Storage,
        keys: Sequence[Key],
        choices: tuple[str, ...],
        reviewer: str,
    ) -> None:
        """Answers are stored beside the output at ``storage``. Raises UsageError if ``reviewer`` is
        not a possible file name."""
        self.reviewer = check_reviewer(reviewer)
        self.keys, self.choices = list(keys), choices
        self.shown = False
        self.kept = ReviewAnswers(storage)
        self._guard = threading.Lock()
        self._saved = 0

    @abstractmethod
    def texts(self, number: int) -> Sequence[tuple[str, str]]:
        """What to read about the item with this number: names and texts."""

    @abstractmethod
    def command(self, rows: int | None = None) -> str:
        """The command that goes on with this session; with so many ``rows``, if given."""

    @abstractmethod
    def lines(self, by_reviewer: AnswersByReviewer) -> list[tuple[str, str]]:
        """What is known so far, for ``View.lines``."""

    @abstractmethod
    def facts(self, number: int | None, by_reviewer: AnswersByReviewer) -> Mapping[str, object]:
        """What else the template needs, for ``View.facts``."""

    @property
    def saved(self) -> int:
        """How many answers were given in this session, without those taken back."""
        return self._saved

    def by_reviewer(self) -> dict[str, dict[Key, ReviewerAnswer]]:
        """The current answers of all reviewers. Raises StorageFailed."""
        return self.kept.by_reviewer()

    def view(self) -> View:
        """The current view. Raises StorageFailed."""
        by_reviewer = self.by_reviewer()
        own = by_reviewer.get(self.reviewer, {})
        number = next((n for n, key in enumerate(self.keys) if key not in own), None)
        done = sum(key in own for key in self.keys)
        facts = self.facts(number, by_reviewer)
        return View(number, done, len(self.keys), self.lines(by_reviewer), facts)

    def answer(self, number: int, value: str | None) -> None:
        """Store ``value`` (None: unsure) for the item with this number. The same answer again, as a
        page sends it if the first reply was lost, changes nothing.

        Raises UsageError for an unknown number or value, CommitFailed if it cannot be stored.
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
        """Take the last answer back. Returns its number; None if there is no answer."""
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
            question, *place, value, now_in_iso(), undone, self.shown and not undone
        )
        self.kept.append(self.reviewer, given)
