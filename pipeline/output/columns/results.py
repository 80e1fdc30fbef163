"""The output rows: their columns, and a unit's results as an Arrow table."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pyarrow as pa

from pipeline.errors import RowError, UsageError, unknown_column
from pipeline.input.plain import plain_values
from pipeline.input.schema.metadata import metadata_for
from pipeline.job.answer.label import Label
from pipeline.job.answer.questions import ROW_COLUMNS, AskedQuestion
from pipeline.job.job import Job, Score
from pipeline.output.columns.answers_as_rows import NUMBER, numbers, taken_apart
from pipeline.output.columns.gold import names_of, truth
from pipeline.output.columns.json_columns import arrow_type, coerce
from pipeline.output.columns.probabilities import (
    ACCEPTED,
    LABEL_SET_TYPE,
    PROBABILITIES,
    RAW_CONFIDENCE,
    probability_array,
    probability_fields,
)
from pipeline.output.columns.question_columns import (
    count_answers,
    question_arrays,
    question_fields,
)
from pipeline.output.columns.scores import logprob_of, score_arrays, score_fields
from pipeline.output.tally import Tally, length_bucket
from pipeline.rows.error_reasons import count_reason
from pipeline.rows.request import Scores

ENGINE = "engine"  # a column of jobs with different engines
_ERROR = pa.struct([("type", pa.string()), ("message", pa.string()), ("attempts", pa.int32())])


@dataclass(frozen=True, slots=True)
class RowResult:
    """The result of one row. ``error`` says why it failed; otherwise there is a ``completion``, or
    ``scores`` if the job scores.

    ``key`` identifies what the answer depends on (None: also on chance); ``duplicate``: the answer
    was computed for another row with the same key; ``requests``: how many the engine got for it.
    None of these is a column. ``answers``: one for each of several samples, or for each of several
    questions.
    ``probabilities``: the model's own, one for each choice; they sum to 1.
    """

    completion: str | None = None
    label: str | None = None
    confidence: float | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    scores: Scores | None = None
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: RowError | None = None
    key: bytes | None = None
    duplicate: bool = False
    requests: int = 1
    answers: tuple[RowResult, ...] = ()
    probabilities: tuple[float, ...] = ()

    @property
    def raw_confidence(self) -> float | None:
        """The model's own probability of its most probable choice."""
        return max(self.probabilities, default=None)

    def tried_before(self, times: int) -> RowResult:
        """The result with ``times`` more attempts in its error, and in those of its answers."""
        error = self.error and replace(self.error, attempts=self.error.attempts + times)
        answers = tuple(answer.tried_before(times) for answer in self.answers)
        return replace(self, error=error, answers=answers)


@dataclass(frozen=True)
class OutputColumns:
    """Which input columns are kept, under which names, and the full schema of the dataset."""

    kept: tuple[tuple[str, str], ...]  # (input column, output column)
    label: Label | None
    schema: pa.Schema
    score: Score | None = None
    gold_names: Mapping[str, str] = field(default_factory=dict)  # value -> choice
    answers: int = 1  # per row
    apart: bool = False  # each answer is a row; otherwise several are lists
    questions: tuple[AskedQuestion, ...] = ()  # about each row, if there are several
    question_golds: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # as gold_names
    label_sets: tuple[str, ...] = ()  # columns that right answers fill

    @property
    def lists(self) -> bool:
        return self.answers > 1 and not self.apart

    @property
    def rows_of_one(self) -> int:
        """Output rows per input row."""
        return self.answers if self.apart else 1

    @property
    def results(self) -> frozenset[str]:
        """Names of the columns that are not kept input columns: a kept one may have the name of
        another job's result column."""
        return frozenset(self.schema.names) - {new for _, new in self.kept}

    @property
    def json_properties(self) -> Mapping[str, Any]:
        schema = self.label.answer_schema if self.label else None
        return schema["properties"] if schema else {}


def output_columns(
    job: Job, input_schema: pa.Schema, begun: Container[str] | None = None
) -> OutputColumns:
    """The columns of ``job``'s output; a kept column whose name is taken becomes ``input_NAME``.

    ``begun``: the names of the result columns, if the output is continued; an output begun by an
    earlier version has no columns of probabilities.

    Raises UsageError when ``output.keep``, a key of right answers or ``score.completion`` names a
    column that does not exist.
    """
    wanted = job.output.keep if job.output.keep is not None else tuple(input_schema.names)
    scored = (job.score.completion,) if job.score and job.score.completion else ()
    empty = not input_schema.names  # a file without rows may also have no columns
    for key, names in (
        ("output.keep", wanted),
        *((key, (one.gold_column,)) for key, one in job.graded.items() if one.gold_column),
        ("score.completion", () if empty else scored),
    ):
        for name in names:
            if name not in input_schema.names:
                raise unknown_column(f"{key} names {name!r}", name, input_schema.names)
    n, apart = job.sampling.n, job.output.n == "rows"
    lists = n > 1 and not apart
    told = begun is None or PROBABILITIES in begun
    sets = [one.columns.label_set for one in job.asked]
    asked_for = job.trust.label_sets is not None
    sets = [name for name in sets if (asked_for if begun is None else name in begun)]
    questions = job.asked if job.questions else ()
    if questions:
        results = [*question_fields(questions), *_set_fields(sets), *_row_fields()]
    elif job.score:
        results = _score_fields(job.score)
    else:
        results = _result_fields(job.label, sets, lists=lists, probabilities=told)
    if job.resources.mixed:
        if ENGINE in (f.name for f in results):
            raise UsageError(
                f"an answer is called {ENGINE!r}, a column that says in mixed jobs who answered",
                "give the property or question another name",
            )
        results.insert(-1, pa.field(ENGINE, pa.string()))
    if apart:
        results.insert(0, pa.field(NUMBER, pa.int32()))
        if NUMBER in (f.name for f in results[1:]):
            raise UsageError(
                f"label.json_schema has a property {NUMBER!r}, a column that output.n: rows has",
                "give the property another name",
            )
    taken = {f.name for f in results}
    kept: list[tuple[str, str]] = []
    for name in dict.fromkeys(wanted):
        new = name
        while new in taken or (new != name and new in wanted):
            new = f"input_{new}"
        taken.add(new)
        kept.append((name, new))
    fields = [input_schema.field(old).with_name(new).with_nullable(True) for old, new in kept]
    same = [new for old, new in kept if old == new]
    schema = pa.schema(fields + results, metadata_for(input_schema.metadata, same))
    label = job.label
    truths = names_of(label, input_schema) if label and label.gold_column else {}
    golds = {q.name: names_of(q.graded, input_schema) for q in questions if q.graded.gold_column}
    return OutputColumns(
        tuple(kept), label, schema, job.score, truths, n, apart, questions, golds, tuple(sets)
    )


def _row_fields() -> list[pa.Field]:
    """Columns of a row with several questions, beside those of the questions (``ROW_COLUMNS``)."""
    counts = [pa.field(name, pa.int32()) for name in ROW_COLUMNS[:-1]]
    return [*counts, pa.field(ROW_COLUMNS[-1], _ERROR)]


def _score_fields(score: Score) -> list[pa.Field]:
    return [
        *score_fields(score),
        pa.field("prompt_tokens", pa.int32()),
        pa.field("error", _ERROR),
    ]


def _set_fields(names: Sequence[str]) -> list[pa.Field]:
    return [pa.field(name, LABEL_SET_TYPE) for name in names]


def _result_fields(
    label: Label | None, sets: Sequence[str], *, lists: bool, probabilities: bool
) -> list[pa.Field]:
    """``sets``: names of columns of label sets. ``lists``: columns with a value per answer are
    lists. ``probabilities``: include those of choices."""

    def each(name: str, kind: pa.DataType) -> pa.Field:
        return pa.field(name, pa.list_(kind) if lists else kind)

    fields = [each("completions" if lists else "completion", pa.string())]
    if label and label.choices:
        fields += [pa.field("label", pa.string())]
    if label and (label.choices or label.votes):
        fields += [pa.field("confidence", pa.float64())]
    if label and label.choices and probabilities:
        fields += [*probability_fields(label.choices), *_set_fields(sets)]
    fields += [
        each("finish_reasons" if lists else "finish_reason", pa.string()),
        pa.field("prompt_tokens", pa.int32()),
        each("completion_tokens", pa.int32()),
        pa.field("error", _ERROR),
    ]
    names = {f.name for f in fields}
    if label and label.answer_schema:
        for name, schema in label.answer_schema["properties"].items():
            if name in names:
                raise UsageError(
                    f"label.json_schema has a property {name!r}, a column every result has",
                    "give the property another name",
                )
            fields.insert(-4, each(name, arrow_type(schema)))
    return fields


def to_table(
    inputs: pa.Table,
    results: Sequence[RowResult],
    columns: OutputColumns,
    engine: str | None = None,
) -> pa.Table:
    """One output row per input row, in order (or one for each of its answers); ``results[i]``
    belongs to row i of ``inputs``. ``engine``: the one that answered them."""
    rows = inputs.num_rows
    if columns.apart:
        inputs, results = taken_apart(inputs, results, columns.answers)
    arrays: dict[str, Any] = {
        "prompt_tokens": [r.prompt_tokens for r in results],
        "error": [r.error and _as_struct(r.error) for r in results],
        **{name: [None] * len(results) for name in columns.label_sets},
        ENGINE: [None if r.error else engine for r in results],
    }
    if columns.score is not None:
        arrays |= score_arrays([r.scores for r in results], columns.score)
    elif columns.questions:
        arrays["completion_tokens"] = [r.completion_tokens for r in results]
        arrays |= question_arrays(results, columns.questions)
    elif columns.lists:
        arrays |= {
            "completions": _lists(results, lambda r: r.completion),
            "finish_reasons": _lists(results, lambda r: r.finish_reason),
            "completion_tokens": _lists(results, lambda r: r.completion_tokens),
        }
        for name, schema in columns.json_properties.items():
            arrays[name] = _lists(results, partial(_property, name, schema))
    else:
        arrays |= {
            "completion": [r.completion for r in results],
            "finish_reason": [r.finish_reason for r in results],
            "completion_tokens": [r.completion_tokens for r in results],
            "label": [r.label for r in results],
            "confidence": [r.confidence for r in results],
            NUMBER: numbers(rows, columns.answers),
        }
        if columns.label and columns.label.choices and PROBABILITIES in columns.results:
            arrays |= {
                ACCEPTED: [None] * len(results),
                RAW_CONFIDENCE: [r.raw_confidence for r in results],
                PROBABILITIES: probability_array(
                    [r.probabilities for r in results], columns.label.choices
                ),
            }
        for name, schema in columns.json_properties.items():
            arrays[name] = [_property(name, schema, r) for r in results]
    # last: an input column may have the name of another job's result column
    arrays |= {new: inputs.column(old) for old, new in columns.kept}
    return pa.table(
        [
            pa.array(value, f.type) if isinstance(value, list) else value
            for f, value in ((f, arrays[f.name]) for f in columns.schema)
        ],
        schema=columns.schema,
    )


def _property(name: str, schema: Mapping[str, Any], result: RowResult) -> Any:
    return coerce(result.fields.get(name), schema)


def _lists(results: Sequence[RowResult], of: Callable[[RowResult], Any]) -> list[list[Any] | None]:
    """A list over each row's answers; null for a row without any."""
    return [[of(answer) for answer in r.answers] if r.answers else None for r in results]


def _as_struct(error: RowError) -> dict[str, Any]:
    return {"type": error.type.value, "message": error.message, "attempts": error.attempts}


def tally(
    inputs: pa.Table,
    results: Sequence[RowResult],
    columns: OutputColumns,
    engine: str | None = None,
) -> Tally:
    """Count a unit's rows, and compare its labels with the gold column if the job names one."""
    total = Tally(rows=len(results))
    label = columns.label
    choices = label.choices if label else None
    column = label.gold_column if label else None
    gold = plain_values(inputs.column(column)) if column else None
    golds = {
        q.name: plain_values(inputs.column(q.graded.gold_column))
        for q in columns.questions
        if q.graded.gold_column
    }
    for row, result in enumerate(results):
        total.prompt_tokens += result.prompt_tokens
        total.completion_tokens += result.completion_tokens
        total.duplicates += result.duplicate
        total.requests += 0 if result.duplicate or result.error else result.requests
        if result.prompt_tokens:
            total.prompt_lengths[length_bucket(result.prompt_tokens)] += 1
        error = result.error
        if columns.apart:  # as in its rows
            error = next((a.error for a in result.answers if a.error), error)
        if error is not None:
            total.failed += 1
            total.errors[error.type.value] += 1
            total.error_examples.setdefault(error.type.value, error.message)
            count_reason(total.error_reasons, error.type.value, error.message)
            continue
        if engine is not None and ENGINE in columns.results:
            total.answered_by[engine] += 1
        if result.scores is not None:
            total.scored_tokens += len(result.scores.logprobs)
            total.logprob += logprob_of(result.scores)
            continue
        if columns.questions:
            of_row = {name: values[row] for name, values in golds.items()}
            count_answers(total, result, columns.questions, of_row, columns.question_golds)
            continue
        for one in result.answers or (result,):
            total.completion_lengths[length_bucket(one.completion_tokens)] += 1
            total.longest_completion = max(total.longest_completion, one.completion_tokens)
            total.finish_reasons[str(one.finish_reason)] += 1
        if choices:
            total.labels[str(result.label)] += 1
        if gold is not None and gold[row] is not None:
            right = truth(gold[row], columns.gold_names)
            for one in result.answers if columns.answers > 1 else (result,):
                answer = one.label if choices else (one.completion or "").strip()
                # free text has no classes: count only whether it is right
                other = "right" if right == answer else "wrong"
                total.confusion[f"{right}\t{answer}" if choices else other] += 1
    return total
