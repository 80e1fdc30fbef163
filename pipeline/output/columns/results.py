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
from pipeline.job.answer.questions import ROW_COLUMNS
from pipeline.job.job import Job
from pipeline.output.columns.answers_as_rows import NUMBER, numbers, taken_apart
from pipeline.output.columns.gold import names_of, truth
from pipeline.output.columns.json_columns import arrow_type, coerce
from pipeline.output.columns.probabilities import (
    LABEL_SET_TYPE,
    PROBABILITIES,
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
_ERROR = pa.field(
    "error",
    pa.struct([("type", pa.string()), ("message", pa.string()), ("attempts", pa.int32())]),
)


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

    job: Job
    kept: tuple[tuple[str, str], ...]  # (input column, output column)
    schema: pa.Schema
    label_sets: tuple[str, ...] = ()  # columns that right answers fill
    # value of a right answer -> choice, by the job's key for the column with the right answers
    names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def answers(self) -> int:
        """Per row."""
        return self.job.sampling.n

    @property
    def apart(self) -> bool:
        """Each answer is a row; otherwise several are lists."""
        return self.job.output.n == "rows"

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
        label = self.job.label
        return label.answer_schema["properties"] if label and label.answer_schema else {}


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
    apart = job.output.n == "rows"
    sets = [one.columns.label_set for one in job.asked]
    asked_for = job.trust.label_sets is not None
    sets = [name for name in sets if (asked_for if begun is None else name in begun)]
    of_labels = [pa.field(name, LABEL_SET_TYPE) for name in sets]
    if job.questions:
        counts = [pa.field(name, pa.int32()) for name in ROW_COLUMNS[:-1]]
        results = [*question_fields(job.asked), *of_labels, *counts, _ERROR]
    elif job.score:
        results = [*score_fields(job.score), pa.field("prompt_tokens", pa.int32()), _ERROR]
    else:
        fields = question_fields(job.asked)
        if begun is not None and PROBABILITIES not in begun:
            fields = fields[:2]  # label and confidence
        results = _result_fields(job.label, [*fields, *of_labels], job.sampling.n > 1 and not apart)
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
    golds = {k: names_of(one, input_schema) for k, one in job.graded.items() if one.gold_column}
    return OutputColumns(job, tuple(kept), schema, tuple(sets), golds)


def _result_fields(label: Label | None, of_label: list[pa.Field], lists: bool) -> list[pa.Field]:
    """``of_label``: the columns of an answer that is one of the choices. ``lists``: columns with a
    value per answer are lists."""

    def each(name: str, kind: pa.DataType) -> pa.Field:
        return pa.field(name, pa.list_(kind) if lists else kind)

    fields = [each("completions" if lists else "completion", pa.string()), *of_label]
    if label and label.votes and not of_label:
        fields += [pa.field("confidence", pa.float64())]
    fields += [
        each("finish_reasons" if lists else "finish_reason", pa.string()),
        pa.field("prompt_tokens", pa.int32()),
        each("completion_tokens", pa.int32()),
        _ERROR,
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
    job = columns.job
    if job.score is not None:
        arrays |= score_arrays([r.scores for r in results], job.score)
    elif job.questions:
        arrays["completion_tokens"] = [r.completion_tokens for r in results]
        arrays |= question_arrays([r.answers for r in results], job.asked)
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
            "confidence": [r.confidence for r in results],
            NUMBER: numbers(rows, columns.answers),
            **question_arrays([() if r.error else (r,) for r in results], job.asked),
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
    job = columns.job
    choices = job.label and job.label.choices
    golds = {
        key: plain_values(inputs.column(one.gold_column))
        for key, one in job.graded.items()
        if one.gold_column
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
        known = [(key, values[row]) for key, values in golds.items()]
        truths = {key: truth(v, columns.names[key]) for key, v in known if v is not None}
        if job.questions:
            count_answers(total, result, job.asked, truths)
            continue
        for one in result.answers or (result,):
            total.completion_lengths[length_bucket(one.completion_tokens)] += 1
            total.longest_completion = max(total.longest_completion, one.completion_tokens)
            total.finish_reasons[str(one.finish_reason)] += 1
        if choices:
            total.labels[str(result.label)] += 1
        right = truths.get("label.gold")
        if right is not None:
            for one in result.answers if columns.answers > 1 else (result,):
                answer = one.label if choices else (one.completion or "").strip()
                # free text has no classes: count only whether it is right
                other = "right" if right == answer else "wrong"
                total.confusion[f"{right}\t{answer}" if choices else other] += 1
    return total
