"""Two outputs over the same rows, side by side: what differs, and which of them is better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import UsageError, some_of
from pipeline.input.plain import plain_rows
from pipeline.output.columns.answer_rows import NUMBER
from pipeline.output.stored_rows import FILE, ROW, StoredRows
from pipeline.report.intervals import Share, mcnemar

_Place = tuple[str, int, int]  # file, row, which of its answers


@dataclass(frozen=True)
class Change:
    """A row that the two answer differently. ``truth``: the right answer, where it is known."""

    file: str
    row: int
    before: Any
    after: Any
    truth: str | None
    values: dict[str, Any]  # the columns that both have of the input


@dataclass(frozen=True)
class Comparison:
    """What came out. ``rows``: in both; ``answered``: by both; ``same``: with the same answer.

    ``graded``: of those the ones whose right answer is known; of them ``first_right`` and
    ``second_right``; ``only_first`` and ``only_second``: where one alone is right.
    """

    rows: int
    answered: int
    same: int
    graded: int = 0
    first_right: int = 0
    second_right: int = 0
    only_first: int = 0
    only_second: int = 0
    tokens: tuple[float, float] = (0.0, 0.0)  # of a row, prompt and answer
    changes: Sequence[Change] = field(default=(), repr=False)

    @property
    def p_value(self) -> float | None:
        """Of McNemar's test; None where no right answers are known."""
        return mcnemar(self.only_first, self.only_second) if self.graded else None

    @property
    def accuracies(self) -> tuple[Share, Share]:
        return Share(self.first_right, self.graded), Share(self.second_right, self.graded)


@dataclass(frozen=True, slots=True)
class _Answered:
    """What one output has of a row. ``answer`` None: an error row."""

    answer: Any
    tokens: int
    truth: str | None


def compare_outputs(one: StoredRows, other: StoredRows, keep: int) -> Comparison:
    """``keep``: how many of the rows that differ are kept to be shown. Rows are matched by their
    file's name and their place in it; memory grows with the answers of one output.

    Raises UsageError where the outputs have no answers, or no rows, in common.
    """
    columns = _common_answers(one, other)
    before = {place: found for place, found, _ in _answers(one, columns)}
    counts: Counter[str] = Counter()
    tokens = [0, 0]
    changes: list[Change] = []
    for place, second, row in _answers(other, columns):
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
            counts += _graded(first.answer == truth, second.answer == truth)
        if first.answer == second.answer:
            counts["same"] += 1
        elif len(changes) < keep:
            inputs = {name: row[name] for name in other.kept if name in row}
            changes.append(Change(*place[:2], first.answer, second.answer, truth, inputs))
    if not counts["rows"]:
        raise UsageError(
            f"{one.address} and {other.address} have no row in common",
            "rows are matched by the name of their file and their place in it",
        )
    means = tokens[0] / counts["rows"], tokens[1] / counts["rows"]
    return Comparison(tokens=means, changes=changes, **{name: counts[name] for name in _COUNTED})


_COUNTED = (
    "rows", "answered", "same", "graded", "first_right", "second_right", "only_first", "only_second"
)  # fmt: skip


def _graded(first: bool, second: bool) -> Counter[str]:
    return Counter(
        graded=1,
        first_right=int(first),
        second_right=int(second),
        only_first=int(first and not second),
        only_second=int(second and not first),
    )


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
) -> Iterator[tuple[_Place, _Answered, dict[str, Any]]]:
    shown = {FILE, ROW, NUMBER, "error", "prompt_tokens", "completion_tokens", *columns}
    shown |= set(stored.kept)
    for table in stored.tables():
        names = [name for name in table.column_names if name in shown]
        for row in plain_rows(table.select(names))[0]:
            written = row.get("completion_tokens") or 0
            answer = row[columns[0]] if len(columns) == 1 else {c: row[c] for c in columns}
            yield (
                (row[FILE], row[ROW], row.get(NUMBER, 0)),
                _Answered(
                    answer if row["error"] is None else None,
                    (row["prompt_tokens"] or 0)
                    + (sum(written) if isinstance(written, list) else written),
                    stored.truth(row.get(stored.gold)) if stored.gold else None,
                ),
                row,
            )
