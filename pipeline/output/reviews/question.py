"""The question for reviewers: one of those that a job asks about each row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UsageError, did_you_mean, some_of
from pipeline.job.answer.questions import AskedQuestion
from pipeline.job.template.field_text import as_shown
from pipeline.job.template.render import lookup
from pipeline.output.columns.question_columns import label_of
from pipeline.output.rows.stored_rows import StoredRows

LABEL = "label"  # the name of the one question of a job with `label`
_WORDS = 600  # characters of the question's text that are shown


@dataclass(frozen=True)
class ReviewQuestion:
    """``answers``: the column with the answer; ``probabilities``, ``confidences``: the columns with
    the model's own probabilities of all choices and of its best one, None without one. ``text``:
    the question in words. ``gold``: the existing source of right answers."""

    name: str
    choices: tuple[str, ...]
    answers: str
    confidences: str | None
    probabilities: str | None
    text: str
    gold: AskedQuestion

    def own_choice(self, row: Mapping[str, Any]) -> str | None:
        """The model's own most probable choice: an answer that was calibrated with a row's right
        answer cannot be judged by it."""
        known = row.get(self.probabilities) if self.probabilities else None
        if known:
            return max(self.choices, key=lambda choice: known.get(choice) or 0.0)
        answer = row.get(self.answers)
        if answer is None:
            return None
        return label_of(self.gold, answer if isinstance(answer, bool) else str(answer))


def question_of(stored: StoredRows, name: str | None) -> ReviewQuestion:
    """The question called ``name`` (None: the only one). Raises UsageError."""
    known = _questions(stored)
    if not known:
        raise UsageError(
            f"{stored.address} holds no answers that are one of a few choices: there is nothing "
            "to review",
            "give the job a list of them: label: {choices: […]}",
        )
    if name is None and len(known) > 1:
        raise UsageError(
            f"{stored.address} answers {len(known)} questions: {some_of(list(known))}",
            f"name one: --question {next(iter(known))}",
        )
    found = known.get(next(iter(known)) if name is None else name)
    if found is None:
        hints = did_you_mean(str(name), known)
        raise UsageError(
            f"--question {name}: {stored.address} answers {some_of(list(known))}", *hints
        )
    return found


def _questions(stored: StoredRows) -> dict[str, ReviewQuestion]:
    job = stored.job
    if job is None:
        return {}
    found = {}
    for asked in job.asked:
        columns = asked.columns
        if columns.answer not in stored.schema.names:
            continue
        # prefer the model's own: calibration does not change it
        known = (columns.raw_confidence, columns.confidence)
        sure = next((n for n in known if n in stored.schema.names and n not in stored.kept), None)
        text = (asked.text or job.instructions or "Which is right?").strip()[:_WORDS]
        told = columns.probabilities
        every = told if told in stored.schema.names and told not in stored.kept else None
        found[asked.name] = ReviewQuestion(
            asked.name, asked.choices, columns.answer, sure, every, text, asked
        )
    return found


def shown_fields(stored: StoredRows) -> tuple[str, ...]:
    """The columns of a row that reviewers see: the kept ones that the prompt reads; without any,
    all kept ones except right answers. Raises UsageError if there are none."""
    job = stored.job
    fields = job.prompt_fields if job else ()
    kept = [f for f in fields if f in stored.kept or f.partition(".")[0] in stored.kept]
    right = {a.graded.gold_column for a in job.asked} if job else set()
    shown = tuple(kept or (name for name in stored.kept if name not in right))
    if not shown:
        raise UsageError(
            f"{stored.address} kept no column of its input: there is nothing to show reviewers",
            f"keep what the prompt reads: output: {{keep: [{', '.join(fields)}]}}; and run again",
        )
    return shown


def shown_texts(row: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, str]:
    """Field -> the text that reviewers read."""
    return {field: as_shown(lookup(row, field)) for field in fields}
