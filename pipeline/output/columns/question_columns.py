"""The columns of a job with several questions: those of ``label.choices`` once for each question.

NAME                 the answer: text; for a predicate a bool
NAME_confidence      how probable it is; for a predicate NAME_probability: how probable yes is
NAME_expectation     only for a score: the mean of its levels, the lowest of which is 0
NAME_accepted, NAME_raw_confidence, NAME_probabilities, NAME_label_set    see ``probabilities``
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.job.answer.questions import NO, YES, AskedQuestion
from pipeline.output.columns.probabilities import probability_array, probability_type
from pipeline.output.tally import Tally

if TYPE_CHECKING:
    from pipeline.output.columns.results import RowResult


def question_fields(asked: Sequence[AskedQuestion]) -> list[pa.Field]:
    """All columns of the questions, in their order."""
    fields = []
    for one in asked:
        columns = one.columns
        kinds: dict[str | None, pa.DataType] = dict.fromkeys(columns, pa.float64())
        kinds[columns.answer] = pa.bool_() if one.kind == "predicate" else pa.string()
        kinds[columns.accepted] = pa.bool_()
        kinds[columns.probabilities] = probability_type(one.choices)
        fields += [pa.field(name, kinds[name]) for name in columns]
    return fields


def question_arrays(
    rows: Sequence[Sequence[RowResult]], asked: Sequence[AskedQuestion]
) -> dict[str, Any]:
    """The columns' values, from each row's answers to the questions; null for a row without any."""
    arrays: dict[str, Any] = {}
    for number, one in enumerate(asked):
        answers = [row[number] if row else None for row in rows]
        columns = one.columns
        arrays |= {
            columns.answer: _each(answers, partial(stored_answer, one)),
            columns.confidence: _each(answers, partial(sureness, one)),
            columns.accepted: [None] * len(answers),
            columns.raw_confidence: _each(answers, lambda a: a.raw_confidence),
            columns.probabilities: probability_array(
                [a.probabilities if a else () for a in answers], one.choices
            ),
        }
        if columns.expectation is not None:
            arrays[columns.expectation] = _each(answers, lambda a: expectation(a.probabilities))
    return arrays


def _each(answers: Sequence[RowResult | None], of: Callable[[RowResult], Any]) -> list[Any]:
    return [None if answer is None else of(answer) for answer in answers]


def stored_answer(asked: AskedQuestion, answer: RowResult) -> str | bool:
    """An answer in the form of its column."""
    return as_stored(asked, str(answer.label))


def as_stored(asked: AskedQuestion, choice: str) -> str | bool:
    """A choice in the form of the column of answers."""
    return choice == YES if asked.kind == "predicate" else choice


def answer_fields(asked: AskedQuestion, answer: RowResult) -> dict[str, Any]:
    """An answer for users and scripts that ask about one row: the content of its columns, without
    the question's name."""
    columns, probabilities = asked.columns, answer.probabilities
    fields: dict[str, Any] = {
        "answer": stored_answer(asked, answer),
        columns.confidence.removeprefix(f"{asked.name}_"): sureness(asked, answer),
    }
    if columns.expectation is not None:
        fields["expectation"] = expectation(probabilities)
    return fields | {"probabilities": dict(zip(asked.choices, probabilities, strict=True))}


def sureness(asked: AskedQuestion, answer: RowResult) -> float | None:
    """How probable the answer is; for a predicate, how probable yes is."""
    if asked.kind == "predicate":
        return answer.probabilities[asked.choices.index(YES)]
    return answer.confidence


def expectation(probabilities: Sequence[float]) -> float:
    """The mean level of a score, the lowest of which is 0."""
    return sum(level * p for level, p in enumerate(probabilities))


def count_answers(
    total: Tally,
    result: RowResult,
    asked: Sequence[AskedQuestion],
    truths: Mapping[str, str],
) -> None:
    """Count one row's answers. ``truths``: the right ones, by the job's keys for them."""
    for one, answer in zip(asked, result.answers, strict=True):
        total.question_labels[f"{one.name}\t{answer.label}"] += 1
        right = truths.get(one.gold_key)
        if right is not None:
            total.question_confusion[f"{one.name}\t{right}\t{answer.label}"] += 1


def labels_in(table: pa.Table, asked: Sequence[AskedQuestion]) -> Counter[str]:
    """The answers in rows without errors, counted as in ``Tally.question_labels``."""
    found: Counter[str] = Counter()
    for one in asked:
        for value in table.column(one.columns.answer).value_counts().to_pylist():
            found[f"{one.name}\t{label_of(one, value['values'])}"] = value["counts"]
    return found


def label_of(asked: AskedQuestion, value: str | bool | None) -> str:
    """The choice for a value of the answer's column."""
    return (YES if value else NO) if asked.kind == "predicate" else str(value)


def confidence_in(asked: AskedQuestion, row: Mapping[str, Any]) -> float | None:
    """How probable a stored row's answer is; None in error rows."""
    sure: float | None = row.get(asked.columns.confidence)
    if sure is None or asked.kind != "predicate":
        return sure
    return sure if row.get(asked.columns.answer) else 1 - sure
