"""Two outputs over the same rows: what differs, and which output is better."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from sys import intern
from typing import Any

from pipeline.errors import UsageError, some_of
from pipeline.input.plain import rows_with_gaps
from pipeline.output.columns.answers_as_rows import NUMBER
from pipeline.output.columns.gold import names_of, truth
from pipeline.output.columns.question_columns import as_stored
from pipeline.output.rows.stored_rows import FILE, ROW, StoredRows
from pipeline.report.comparison.intervals import Share, mcnemar

_Place = tuple[str, int, int]  # file, row, which of its answers


@dataclass(frozen=True)
class Change:
    """A row with different answers in the two. ``truth``: the right answer; None: not known."""

    file: str
    row: int
    before: Any
    after: Any
    truth: str | bool | None
    values: dict[str, Any]  # columns of the input that the second output keeps


@dataclass(frozen=True)
class Comparison:
    """The result. ``rows``: in both outputs; ``answered``: by both; ``same``: with the same answer.

    ``graded``: answered rows whose right answer is known. Of these, ``first_right`` and
    ``second_right`` are right in one output, and ``only_first`` and ``only_second`` only there.
    """

    rows: int
    answered: int = 0
    same: int = 0
    graded: int = 0
    first_right: int = 0
    second_right: int = 0
    only_first: int = 0
    only_second: int = 0
    tokens: tuple[float, float] = (0.0, 0.0)  # mean of a row in each output, prompt and answer
    changes: Sequence[Change] = field(default=(), repr=False)

    @property
    def p_value(self) -> float | None:
        """Of McNemar's test; None if no right answers are known."""
        return mcnemar(self.only_first, self.only_second) if self.graded else None

    @property
    def accuracies(self) -> tuple[Share, Share]:
        return Share(self.first_right, self.graded), Share(self.second_right, self.graded)


@dataclass(frozen=True, slots=True)
class _Answered:
    """What one output has for a row. ``answer``: its digest; None: an error row."""

    answer: bytes | None
    tokens: int
    truth: str | bool | None


def compare_questions(one: StoredRows, other: StoredRows) -> dict[str, Comparison]:
    """Outputs with several questions: compare each question that both have by itself. Raises
    UsageError."""
    common = _common_answers(one, other)
    names = [q.name for q in one.asked if q.columns.answer in common]
    return {name: compare_outputs(one, other, 0, name) for name in names if len(common) > 1}


def compare_outputs(
    one: StoredRows, other: StoredRows, keep: int, question: str | None = None
) -> Comparison:
    """``keep``: how many of the rows that differ to keep for showing. Rows are matched by their
    file's name and their place in it. Memory grows with the rows of one output, by a few hundred
    bytes each, however long the answers are. NaN is the same answer as NaN. ``question``: compare
    only the answers to this one.

    Raises UsageError if the outputs have no answers, or no rows, in common.
    """
    columns = _common_answers(one, other) if question is None else (question,)
    before = {place: found for place, found, _, _ in _answers(one, columns)}
    counts: Counter[str] = Counter()
    tokens = [0, 0]
    changes: dict[_Place, Change] = {}
    for place, second, answer, row in _answers(other, columns):
        first = before.get(place)
        if first is None:
            continue
        counts["rows"] += 1
        tokens = [tokens[0] + first.tokens, tokens[1] + second.tokens]
        if first.answer is None or second.answer is None:
            continue
        counts["answered"] += 1
        truth = first.truth if first.truth is not None else second.truth
        if truth is not None:
            right = _digest(truth)
            mine, theirs = first.answer == right, second.answer == right
            counts.update(graded=1, first_right=mine, second_right=theirs)
            counts.update(only_first=mine > theirs, only_second=theirs > mine)
        if first.answer == second.answer:
            counts["same"] += 1
        elif len(changes) < keep:
            inputs = {name: row[name] for name in other.kept if name in row}
            changes[place] = Change(*place[:2], None, answer, truth, inputs)
    if not counts["rows"]:
        raise UsageError(
            f"{one.address} and {other.address} have no row in common",
            "rows are matched by the name of their file and their place in it",
        )
    means = tokens[0] / counts["rows"], tokens[1] / counts["rows"]
    shown = _with_first(changes, one, columns)
    return Comparison(tokens=means, changes=shown, **counts)


def _with_first(
    changes: dict[_Place, Change], one: StoredRows, columns: tuple[str, ...]
) -> list[Change]:
    """The changes with the answers of the first output, which is read once more."""
    left = set(changes)
    if left:
        for place, _, answer, _ in _answers(one, columns):
            if place in left:
                changes[place] = replace(changes[place], before=answer)
                left.remove(place)
                if not left:
                    break
    return list(changes.values())


def _digest(answer: Any) -> bytes:
    """Equal for equal answers."""
    return hashlib.blake2b(repr(_comparable(answer)).encode(), digest_size=16).digest()


def _comparable(value: Any) -> Any:
    """Equal values get the same form: 1 and 1.0, NaN and NaN, structs in any order."""
    if isinstance(value, dict):
        return sorted((key, _comparable(one)) for key, one in value.items())
    if isinstance(value, list | tuple):
        return [_comparable(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return value
    if isinstance(value, int | float | Decimal):
        return value.as_integer_ratio()
    return value


def _common_answers(one: StoredRows, other: StoredRows) -> tuple[str, ...]:
    common = tuple(name for name in one.answer_columns if name in other.answer_columns)
    if not common and "completion" in one.schema.names and "completion" in other.schema.names:
        return ("completion",)
    if not common:
        raise UsageError(
            f"{one.address} and {other.address} have no answers in common: "
            f"{some_of(one.answer_columns)}, and {some_of(other.answer_columns)}"
        )
    return common


def _answers(
    stored: StoredRows, columns: tuple[str, ...]
) -> Iterator[tuple[_Place, _Answered, Any, dict[str, Any]]]:
    """Each row's place, what is compared, its answer, and all that the output has for it."""
    shown = {FILE, ROW, NUMBER, "error", "prompt_tokens", "completion_tokens", *columns}
    shown |= set(stored.kept)
    truth_of = _truths(stored, columns)
    for table in stored.tables():
        names = [name for name in table.column_names if name in shown]
        for row in rows_with_gaps(table.select(names)):
            written = row.get("completion_tokens") or 0
            answer = row.get(columns[0]) if len(columns) == 1 else {c: row.get(c) for c in columns}
            yield (
                (row[FILE], row[ROW], row.get(NUMBER, 0)),
                _Answered(
                    _digest(answer) if answer is not None and row["error"] is None else None,
                    (row["prompt_tokens"] or 0)
                    + (sum(written) if isinstance(written, list) else written),
                    truth_of(row),
                ),
                answer,
                row,
            )


def _truths(
    stored: StoredRows, columns: tuple[str, ...]
) -> Callable[[Mapping[str, Any]], str | bool | None]:
    """Finds the right value of a row's only answer, as its column stores it; None: not known. There
    are few values for many rows, so each is kept once."""
    right = stored.right_answers.of(columns[0]) if len(columns) == 1 else None
    if right is not None:
        asked, found = right.asked, right.truth
        return lambda row: None if (t := found(row)) is None else as_stored(asked, intern(t))
    label = stored.job.label if stored.job else None
    column = label and label.gold_column and stored.kept_as(label.gold_column)
    if label is None or not column or len(stored.answer_columns) > 1:
        return lambda row: None
    names = names_of(label, stored.input_schema)  # for a regular expression, or a JSON schema
    return lambda row: None if (v := row.get(column)) is None else intern(truth(v, names))
