"""One reviewer at work on the sample of an output."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.errors import UsageError
from pipeline.output.dataset import Dataset
from pipeline.output.growing.growing import parts_of
from pipeline.output.reviews.answers import Answer, Key, Place, ReviewAnswers, check_reviewer
from pipeline.output.reviews.draw import ShownRow, rows_at
from pipeline.output.reviews.question import LABEL, Question, question_of
from pipeline.output.reviews.sample import Sample
from pipeline.output.reviews.samples import sample_for
from pipeline.output.rows.stored_rows import StoredRows
from pipeline.output.runs.run_registry import refuse_second
from pipeline.output.runs.status import read_status
from pipeline.storage.base import Storage, open_storage


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Material:
    """What is reviewed. ``rows``: those of the sample that are there."""

    storage: Storage
    question: Question
    sample: Sample
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
    """The sample of ``output``, drawn where there is none or more ``rows`` are asked for. ``note``
    gets a line before something that takes long.

    Raises UsageError for what cannot be reviewed; AlreadyRunning for what is being written.
    """
    stored = StoredRows(output)
    need_finished(output, note)
    asked = question_of(stored, question)
    storage = open_storage(output)
    sample = sample_for(storage, stored, asked, rows)
    return Material(storage, asked, sample, rows_at(stored, asked, {r.place for r in sample.rows}))


def need_finished(output: str, note: Callable[[str], None] = lambda line: None) -> None:
    """Raises UsageError for an output that has not all rows; AlreadyRunning for one that is being
    written."""
    for part in parts_of(output):
        refuse_second(part, note)
        if not Dataset(part).finished:
            status = read_status(part)
            raise UsageError(
                f"{output} is not finished: {status.rows_done} of {status.rows} rows are there, "
                "and a sample is drawn from all",
                f"go on with it first: rackmill run {part.address('_rackmill/job.json')}",
            )


class Sitting:
    """One reviewer who is asked about one thing after another, by keyboard on a page.

    ``keys``: of what is asked, in this order. ``choices``: the answers to it, besides unsure.
    ``shown``: the model's answers are shown beside the rows.
    """

    def __init__(
        self,
        storage: Storage,
        keys: Sequence[Key],
        choices: tuple[str, ...],
        reviewer: str,
        now: Callable[[], str] = _now,
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

    @property
    def saved(self) -> int:
        """Answers that were given here, those that were taken back left out."""
        return self._saved

    def standing(self) -> dict[str, dict[Key, Answer]]:
        """Of all reviewers, as they stand now. Raises StorageFailed."""
        return self.kept.standing()

    def next_key(self, own: Mapping[Key, Answer]) -> int | None:
        """Which is asked about: the first without an answer; None: there is none."""
        return next((n for n, key in enumerate(self.keys) if key not in own), None)

    def answer(self, number: int, value: str | None) -> None:
        """Keep ``value`` (None: unsure) for the row with this number. The same answer once more,
        as a page sends it that never heard of the first, changes nothing.

        Raises UsageError for a row or a value that is none, CommitFailed where it is not kept.
        """
        if not 0 <= number < len(self.keys):
            raise UsageError(f"the sample has no row {number + 1}")
        if value is not None and value not in self.choices:
            raise UsageError("that is none of the choices")
        key = self.keys[number]
        with self._guard:
            before = self._own().get(key)
            if before is not None and before.value == value:
                return
            self._append(key, value)
            self._saved += before is None

    def undo(self) -> int | None:
        """Take the last answer back; the number of its row, None where there is none."""
        with self._guard:
            known = {key: number for number, key in enumerate(self.keys)}
            last = next((key for key in reversed(self._own()) if key in known), None)
            if last is None:
                return None
            self._append(last, None, undone=True)
            self._saved -= 1
            return known[last]

    def _own(self) -> dict[Key, Answer]:
        return self.standing().get(self.reviewer, {})

    def _append(self, key: Key, value: str | None, *, undone: bool = False) -> None:
        question, place = key
        given = Answer(question, *place, value, self.now(), undone, self.shown and not undone)
        self.kept.append(self.reviewer, given)


class Session(Sitting):
    """A reviewer of labels."""

    def __init__(self, material: Material, reviewer: str, now: Callable[[], str] = _now) -> None:
        """Raises UsageError for a ``reviewer`` whose name is no name for a file."""
        self.material = material
        self.places = [r.place for r in material.sample.rows if r.place in material.rows]
        keys = [(material.question.name, place) for place in self.places]
        super().__init__(material.storage, keys, material.question.choices, reviewer, now)

    def command(self, rows: int | None = None) -> str:
        """That goes on with this review; with a sample of so many ``rows``."""
        words = ["rackmill", "review", self.material.output]
        if self.material.question.name != LABEL:
            words += ["--question", self.material.question.name]
        words += ["--reviewer", self.reviewer]
        return shlex.join(words if rows is None else [*words, "--rows", str(rows)])

    def answers(self) -> dict[str, dict[Place, Answer]]:
        """Of all reviewers to this question, as they stand now. Raises StorageFailed."""
        return self.kept.current(self.material.question.name)

    def own(self) -> dict[Place, Answer]:
        return self.answers().get(self.reviewer, {})

    def next_row(self, own: Mapping[Place, Answer]) -> int | None:
        """Which row is asked about: the first without an answer; None: there is none."""
        return next((n for n, place in enumerate(self.places) if place not in own), None)
