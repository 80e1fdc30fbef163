"""The right answers that reviews come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.output.reviews.answers import Place, ReviewAnswers, ReviewerAnswer
from pipeline.output.reviews.draw import rows_at
from pipeline.output.reviews.question import ReviewQuestion, question_of
from pipeline.output.reviews.sample import Drawn, ReviewSample
from pipeline.output.reviews.samples import read_sample
from pipeline.output.rows.stored_rows import StoredRows
from pipeline.rows.gold_row import GoldRow
from pipeline.storage.base import Storage


@dataclass(frozen=True)
class Reviewed:
    """What became of the rows that were asked about. ``gold``: with a right answer; ``tied``: as
    many reviewers say one thing as another; ``unsure``: nobody knows; ``changed``: the row is
    another one now; ``waiting``: answered, but behind a row of the sample that nobody has answered
    (it counts when that one is answered)."""

    gold: list[GoldRow]
    tied: int = 0
    unsure: int = 0
    changed: int = 0
    waiting: int = 0


def gold_of(storage: Storage, question: str) -> list[GoldRow]:
    """Of the output at ``storage``: the rows of the sample that most reviewers agree on, with the
    probability that they were asked about. Raises UsageError, StorageFailed."""
    return reviewed(storage, question).gold


def reviewed(storage: Storage, question: str) -> Reviewed:
    """As ``gold_of``, with what was left out. Raises UsageError, StorageFailed."""
    found = read_sample(storage, question)
    if found is None:
        return Reviewed([])
    sample, of = found
    stored = StoredRows(storage.address())
    about = question_of(stored, question)
    changed: set[Place] = set()
    if of != stored.input_fingerprint:
        changed = _changed(stored, about, sample)
    answers = ReviewAnswers(storage).current(question)
    return settle(sample, answers, about.choices, changed)


def settle(
    sample: ReviewSample,
    answers: Mapping[str, Mapping[Place, ReviewerAnswer]],
    choices: tuple[str, ...],
    changed: set[Place] | frozenset[Place] = frozenset(),
) -> Reviewed:
    """What the reviewers' ``answers`` come to. Only what comes before the first row that nobody has
    answered counts: how probable it was that a row was asked about is known of such beginnings.

    An answer that is no choice any more counts as none.
    """
    given = {row.place: _values(row, answers, choices) for row in sample.rows}
    reached = next(
        (n for n, row in enumerate(sample.rows) if not given[row.place]), len(sample.rows)
    )
    counts: Counter[str] = Counter()
    gold: list[GoldRow] = []
    for one in sample.asked(reached):
        row = one.drawn
        value = _majority(given[row.place])
        if row.place in changed:
            counts["changed"] += 1
        elif value is None:
            known = any(v is not None for v in given[row.place])
            counts["tied" if known else "unsure"] += 1
        else:
            gold.append(GoldRow(row.shard, row.row, value, one.probability, one.random))
    counts["waiting"] = sum(bool(given[row.place]) for row in sample.rows[reached:])
    return Reviewed(gold, **counts)


def _values(
    row: Drawn, answers: Mapping[str, Mapping[Place, ReviewerAnswer]], choices: tuple[str, ...]
) -> list[str | None]:
    found = [by_place[row.place].value for by_place in answers.values() if row.place in by_place]
    return [value for value in found if value is None or value in choices]


def _majority(values: list[str | None]) -> str | None:
    """What more reviewers say than anything else; who is unsure says nothing."""
    counts = Counter(value for value in values if value is not None).most_common(2)
    if not counts or (len(counts) == 2 and counts[0][1] == counts[1][1]):
        return None
    return counts[0][0]


def _changed(stored: StoredRows, question: ReviewQuestion, sample: ReviewSample) -> set[Place]:
    """Rows that are gone, or that have other texts than those that were reviewed."""
    rows = rows_at(stored, question, {row.place for row in sample.rows})
    return {
        row.place
        for row in sample.rows
        if row.place not in rows or rows[row.place].digest != row.digest
    }
