"""A first job file for a user's data: it guesses which columns matter, and says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
import yaml

from pipeline.errors import UsageError, did_you_mean, some_of
from pipeline.input.reader import UnitReader
from pipeline.input.shards import discover
from pipeline.input.units import Unit
from pipeline.job.job import Input

Task = Literal["classify", "extract", "summarise", "chat", "score"]
TASKS: dict[Task, str] = {
    "classify": "one of a few labels for each row, with a probability",
    "extract": "fields of JSON out of each row's text",
    "summarise": "a short text about each row's text",
    "chat": "an answer to each row's text, by a chat model",
    "score": "how likely the model finds each row's text",
}
_MOST_CHOICES = 20
_LEAST_ROWS_A_CHOICE = 3
_TEXT_NAMES = ("text", "content", "body", "message", "prompt", "question", "review", "comment",
               "description", "headline", "title", "document", "sentence")  # fmt: skip
_GOLD_NAMES = ("label", "class", "category", "topic", "sentiment", "gold", "target", "intent")


@dataclass(frozen=True)
class Columns:
    """What was found in the data. ``text``: the column that rows are about; ``gold``: one that
    looks like right labels, and its ``choices``."""

    names: tuple[str, ...]
    text: str
    gold: str | None = None
    choices: tuple[str, ...] = field(default=())


def first_rows_of(path: str, rows: int) -> pa.Table:
    """At most ``rows`` rows of the data at ``path``, all columns. Raises UsageError, JobFailed."""
    files = discover(Input(path=path))
    reader = UnitReader(files.shards, files.schema)
    try:
        parts: list[pa.Table] = []
        for shard in files.shards:
            few = min(rows - sum(part.num_rows for part in parts), shard.rows)
            if few > 0:
                parts.append(reader.read(Unit("sample", shard.index, 0, few)).table)
        return pa.concat_tables(parts) if parts else files.schema.empty_table()
    finally:
        reader.close()


def look(sample: pa.Table) -> Columns:
    """Guess by names, and by the length and variety of the values. ``sample``: some rows.

    Raises UsageError if no column holds text.
    """
    texts = [name for name in sample.column_names if _is_text(sample.schema.field(name).type)]
    if not texts:
        raise UsageError(
            "no column holds text", f"columns: {some_of(sample.column_names)}; cast one: input.cast"
        )
    lengths = {name: _mean_length(sample.column(name)) for name in texts}
    named = [n for n in texts if n.lower() in _TEXT_NAMES]
    text = max(named or texts, key=lambda name: lengths[name])
    others = [n for n in sample.column_names if n != text]
    labels = {n: found for n in others if (found := _choices(sample.column(n)))}
    named = [n for n in labels if n.lower() in _GOLD_NAMES]
    gold = next(iter(named or labels), None)
    return Columns(tuple(sample.column_names), text, gold, labels[gold] if gold else ())


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _mean_length(column: pa.ChunkedArray) -> float:
    values = [len(v) for v in column.to_pylist() if v is not None]
    return sum(values) / len(values) if values else 0.0


def _choices(column: pa.ChunkedArray) -> tuple[str, ...]:
    """The values, if they are few, short and repeated; otherwise none."""
    kind = column.type
    if not (_is_text(kind) or pa.types.is_dictionary(kind)):
        return ()
    values = [v for v in column.to_pylist() if v is not None]
    different = sorted(set(values))
    few = 2 <= len(different) <= min(_MOST_CHOICES, len(values) // _LEAST_ROWS_A_CHOICE)
    short = all(v.strip() and len(v) <= 40 and "\n" not in v for v in different)
    return tuple(different) if few and short else ()


def write_job(
    path: str | Sequence[str],
    task: Task,
    columns: Columns,
    *,
    name: str,
    model: str,
    choices: Sequence[str] = (),
) -> str:
    """The job file, with comments that say what to change. ``choices``: of ``classify``; by default
    those of ``columns``. Raises UsageError."""
    field_ = f"{{{columns.text}}}"
    labels = tuple(choices) or columns.choices
    lines = [
        f"# {TASKS[task][0].upper()}{TASKS[task][1:]}.",
        "# Look at it:  rackmill plan FILE --show 3     try it:  rackmill try FILE",
        f"name: {_text(name)}",
        f"model: {model}".ljust(36) + "# rackmill fit: which ones fit your cards",
        f"input: {{path: {_text(path)}}}",
    ]
    if task == "chat":
        lines += [
            "messages:",
            f"  - {{role: user, content: {_text(field_)}}}",
        ]
        if model == "gemma-3-270m":
            lines.append(
                "chat_template: gemma3".ljust(36) + "# it is a base model: a chat model is better"
            )
    elif task == "score":
        lines += [f"prompt: {_text(field_)}", "score: {}"]
    else:
        asked = {"classify": "Label", "extract": "JSON", "summarise": "Summary"}[task]
        instructions = {
            "classify": f"Label the text. Labels: {', '.join(labels)}.",
            "extract": "Extract the fields from the text, as JSON.",
            "summarise": "Summarise the text in one sentence.",
        }[task]
        lines += [
            f"instructions: {_text(instructions)}",
            f'prompt: {_text(f"Text: {field_}")[:-1]}\\n{asked}:"',
            "# examples:".ljust(36) + "# two or three rows as they should be answered help most",
            f'#   - {{{columns.text}: "…", answer: "…"}}',
        ]
    lines += _shape(task, labels, columns)
    lines += [f"output: {{path: {_text(f'runs/{name}')}}}", ""]
    return "\n".join(lines)


def _shape(task: Task, labels: Sequence[str], columns: Columns) -> list[str]:
    if task == "classify":
        if len(labels) < 2:
            raise UsageError(
                "classify needs the labels that there are", "--choices 'sport, politics, other'"
            )
        found = tuple(labels) == columns.choices and columns.gold is not None
        gold = [f"  gold: {_text(columns.gold)}".ljust(36) + "# right answers: the report compares"]
        return ["label:", f"  choices: {_text(list(labels))}", *(gold if found else [])]
    if task == "extract":
        return [
            "label:",
            "  json_schema:".ljust(36) + "# each property becomes a column",
            "    type: object",
            "    properties:",
            "      name: {type: string}",
            "      amount: {type: [number, 'null']}",
            "    required: [name, amount]",
            "sampling: {max_tokens: 128}",
        ]
    if task in ("summarise", "chat"):
        return ["sampling: {max_tokens: 128}"]
    return []


def _text(value: Any) -> str:
    """In YAML, on one line, text always in quotes."""
    if isinstance(value, str):
        dumped: str = yaml.safe_dump(value, default_style='"', width=1 << 20, allow_unicode=True)
        return dumped.strip()
    return "[" + ", ".join(_text(one) for one in value) + "]"


def need_column(columns: Columns, name: str) -> str:
    """``name``. Raises UsageError if the data has no such column."""
    if name not in columns.names:
        hints = f"columns: {some_of(columns.names)}", *did_you_mean(name, columns.names)
        raise UsageError(f"there is no column {name!r}", *hints)
    return name
