"""The right answers for the rows of an output, from any source: a column, a file, or reviews."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UsageError
from pipeline.job.answer.questions import AskedQuestion
from pipeline.output.columns.gold import names_of, truth
from pipeline.output.columns.question_columns import label_of
from pipeline.output.reviews.answers import Place
from pipeline.output.reviews.gold import gold_of
from pipeline.output.rows.gold_file import GoldFile, gold_source
from pipeline.output.rows.stored_rows import FILE, ROW, StoredRows
from pipeline.storage.base import open_storage


@dataclass(frozen=True)
class GradedQuestion:
    """A question and the source of its right answers. ``column``: the output's column of right
    answers, or of the keys of a ``file``; ``names``: value of the column -> choice; ``reviewed``:
    what reviewers said about rows."""

    asked: AskedQuestion
    column: str | None
    names: Mapping[str, str]
    file: GoldFile | None
    reviewed: Mapping[Place, str]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a row needs."""
        return (self.asked.columns.answer, FILE, ROW, *([self.column] if self.column else []))

    def truth(self, row: Mapping[str, Any]) -> str | None:
        """The right choice, if it is known. The job's own source takes precedence over reviews."""
        value = row.get(self.column) if self.column is not None else None
        right = self.file.answer_to(value) if self.file is not None else None
        if self.file is None and value is not None:
            right = truth(value, self.names)
        if right is not None:
            return right
        return self.reviewed.get((row[FILE], row[ROW])) if self.reviewed else None

    def is_wrong(self, row: Mapping[str, Any]) -> bool:
        value, right = row.get(self.asked.columns.answer), self.truth(row)
        return value is not None and right is not None and label_of(self.asked, value) != right


class RightAnswers:
    """The right answers of ``stored``. ``judged``: the questions with choices whose right answers
    are known for some rows; ``problems``: why those of other questions cannot be looked up. Raises
    StorageFailed."""

    def __init__(self, stored: StoredRows) -> None:
        self._stored = stored
        self.problems: list[UsageError] = []
        found = [self._of(one) for one in (stored.job.asked if stored.job else ())]
        self.judged = tuple(one for one in found if one is not None)

    def of(self, column: str) -> GradedQuestion | None:
        """The right answers to the question whose answers are in ``column``."""
        return next((one for one in self.judged if one.asked.columns.answer == column), None)

    def is_wrong(self, row: Mapping[str, Any]) -> bool:
        """Whether an answer of the row is known to be wrong."""
        return any(one.is_wrong(row) for one in self.judged)

    def need(self) -> tuple[GradedQuestion, ...]:
        """``judged``. Raises UsageError if there are none, or if one cannot be looked up."""
        if self.problems:
            raise self.problems[0]
        if not self.judged:
            where = self._stored.address
            raise UsageError(
                f"{where} holds no right answers to compare with",
                "name their column in the job, and keep it: label: {gold: COLUMN}",
                f"or say where they are: rackmill trust {where} --gold FILE; "
                f"or label some: rackmill review {where}",
            )
        return self.judged

    def _of(self, asked: AskedQuestion) -> GradedQuestion | None:
        try:
            reviews = gold_of(open_storage(self._stored.address), asked.name)
            source, file = gold_source(asked)
        except UsageError as e:
            self.problems.append(e)
            return None
        column = self._stored.kept_as(source) if source is not None else None
        if column is None and not reviews:
            return None
        names = names_of(asked.graded, self._stored.input_schema) if file is None else {}
        reviewed = {(one.shard, one.row): one.value for one in reviews}
        return GradedQuestion(asked, column, names, file if column is not None else None, reviewed)
