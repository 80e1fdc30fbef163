"""The right answers that result from reviews."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pipeline.output.reviews.answers import Place, ReviewAnswers, ReviewerAnswer
from pipeline.output.reviews.draw import rows_at
from pipeline.output.reviews.question import ReviewQuestion, question_of
from pipeline.output.reviews.sample import ReviewSample
from pipeline.output.reviews.samples import read_sample
from pipeline.output.rows.stored_rows import StoredRows
from pipeline.rows.gold_row import GoldRow
from pipeline.storage.base import Storage


def gold_of(storage: Storage, question: str) -> list[GoldRow]:
    """For the output at ``storage``: the rows of the sample that most reviewers agree on, with the
    probability that a row was asked about. Raises UsageError, StorageFailed."""
    found = read_sample(storage, question)
    if found is None:
        return []
    sample, of = found
    stored = StoredRows(storage.address())
    about = question_of(stored, question)
    changed: set[Place] = set()
    if of != stored.input_fingerprint:
        changed = _changed(stored, about, sample)
    answers = ReviewAnswers(storage).current(question)
    return agreed_gold(sample, answers, about.choices, changed)


def agreed_gold(
    sample: ReviewSample,
    answers: Mapping[str, Mapping[Place, ReviewerAnswer]],
    choices: tuple[str, ...],
    changed: set[Place] | frozenset[Place] = frozenset(),
) -> list[GoldRow]:
    """The answer of most reviewers for each row that is not ``changed``. Only rows before the first
    row without an answer count: the probability that a row was asked about is known only for such a
    beginning of the sample.

    An answer that is no longer a choice does not count.
    """
    allowed = {None, *choices}
    said = [{p: a.value for p, a in one.items() if a.value in allowed} for one in answers.values()]
    given = {r.place: [one[r.place] for one in said if r.place in one] for r in sample.rows}
    reached = next(
        (n for n, row in enumerate(sample.rows) if not given[row.place]), len(sample.rows)
    )
    gold: list[GoldRow] = []
    for one in sample.asked(reached):
        row = one.drawn
        value = _majority(given[row.place])
        if value is not None and row.place not in changed:
            gold.append(GoldRow(row.shard, row.row, value, one.probability, one.random))
    return gold


def _majority(values: list[str | None]) -> str | None:
    """The most frequent answer, None for a tie; reviewers who are unsure do not count."""
    counts = Counter(value for value in values if value is not None).most_common(2)
    if not counts or (len(counts) == 2 and counts[0][1] == counts[1][1]):
        return None
    return counts[0][0]


def _changed(stored: StoredRows, question: ReviewQuestion, sample: ReviewSample) -> set[Place]:
    """Rows that are gone, or whose texts differ from those that were reviewed."""
    rows = rows_at(stored, question, {row.place for row in sample.rows})
    return {
        row.place
        for row in sample.rows
        if row.place not in rows or rows[row.place].digest != row.digest
    }
