"""Right answers in a separate file: reading them, and finding the answer for a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.errors import RackmillError, UsageError, did_you_mean, nearest, some_of
from pipeline.humanize import count, plural
from pipeline.input.plain import plain_values
from pipeline.input.reader import UnitReader
from pipeline.input.shards import discover
from pipeline.input.units import cut
from pipeline.job.answer.label import Gold
from pipeline.job.answer.questions import AskedQuestion
from pipeline.job.job import Input
from pipeline.job.template.field_text import as_shown
from pipeline.output.columns.gold import truth, values_given

_UNIT_ROWS = 4096
_NAMED = 5  # how many keys or values a message names


@dataclass
class GoldFile:
    """``answers``: key -> the choice for the value there, for rows that have both. ``says``: where
    the job names the file, for messages."""

    gold: Gold
    says: str
    answers: Mapping[str, str]
    found: Counter[str] = field(default_factory=Counter)  # key -> rows that have it

    @property
    def key(self) -> str:
        """The key column; the input has one of the same name."""
        return str(self.gold.key)

    def look_up(self, keys: pa.ChunkedArray) -> list[str | None]:
        """The right choice for each row, by its key; None if there is none. Counts the rows: see
        ``check_found``."""
        texts = list(map(_as_key, plain_values(keys)))
        self.found.update(key for key in texts if key in self.answers)
        return list(map(self.answers.get, texts))

    def answer_to(self, key: Any) -> str | None:
        """The right choice for one row, by its key; None if there is none."""
        return None if key is None else self.answers.get(_as_key(key))

    def check_found(self) -> str | None:
        """After all rows were looked up: a message about keys that no row has. Raises UsageError
        if no row has any of the keys, and for a key that several rows have."""
        twice = [key for key, rows in self.found.items() if rows > 1]
        if twice:
            rows = self.found[twice[0]]
            raise UsageError(
                f"{self.says}.key {self.key!r}: {some_of(twice, _NAMED)} of {self.gold.path} "
                f"stands in {rows} rows of the input, so it is not known which is meant",
                "name a column that is different in every row",
            )
        missing = [key for key in self.answers if key not in self.found]
        if self.answers and not self.found:
            raise UsageError(
                f"{self.says}: none of the {plural(len(self.answers), 'key')} of {self.gold.path} "
                f"({some_of(missing, _NAMED)}) stands in the input's column {self.key!r}",
                "name the column that both have, with the same values: "
                f"{self.says}: {{path: {self.gold.path}, key: COLUMN, value: {self.gold.value}}}",
            )
        if not missing:
            return None
        return (
            f"{self.says}: {count(len(missing))} of {plural(len(self.answers), 'key')} of "
            f"{self.gold.path} ({some_of(missing, _NAMED)}) stand in no row of the input"
        )


def gold_source(asked: AskedQuestion) -> tuple[str | None, GoldFile | None]:
    """The input's column of right answers to ``asked``, or that of their keys in a file, and the
    file. Raises UsageError if the file is not valid."""
    gold = asked.graded.gold_file
    if gold is None:
        return asked.graded.gold_column, None
    return gold.key, read_gold_file(gold, asked)


def read_gold_file(gold: Gold, asked: AskedQuestion) -> GoldFile:
    """Read the file of right answers to ``asked`` that ``gold`` names. Raises UsageError: no such
    file or column, a key that appears twice, a value that is not one of its choices."""
    says = asked.gold_key
    names = {**asked.graded.known_values, **gold.values}
    path, key, value = str(gold.path), str(gold.key), str(gold.value)
    try:
        files = discover(Input(path=path, partitioning="none"))
    except UsageError as e:
        message = e.message.removeprefix("input.path ").removeprefix(f"{path}: ")
        raise UsageError(f"{says}.path {path}: {message}", *e.hints) from None
    for name, column in (("key", key), ("value", value)):
        if column not in files.schema.names:
            raise UsageError(
                f"{says}.{name} names {column!r}, but {path} has no such column",
                f"columns: {some_of(files.schema.names)}",
                *did_you_mean(column, files.schema.names),
            )
    answers: dict[str, str] = {}
    reader = UnitReader(files.shards, files.schema)
    try:
        for unit in cut(files.shards, _UNIT_ROWS):
            table = reader.read(unit).table
            pairs = zip(
                plain_values(table.column(key)), plain_values(table.column(value)), strict=True
            )
            for row, (name, answer) in enumerate(pairs, unit.start):
                if name is None or answer is None:
                    continue
                if _as_key(name) in answers:
                    raise UsageError(
                        f"{says}: {path}, row {row}: the key {_as_key(name)} stands there twice",
                        "leave one of the two rows out",
                    )
                answers[_as_key(name)] = truth(answer, names)
    except RackmillError as e:
        if isinstance(e, UsageError):
            raise
        raise UsageError(e.message, *e.hints) from None  # nothing has begun yet
    finally:
        reader.close()
    strange = no_choices(answers.values(), asked)
    if strange:
        raise UsageError(f"{says}: {path}, column {value!r} has {strange[0]}", *strange[1:])
    return GoldFile(gold, says, answers)


def no_choices(values: Iterable[str], asked: AskedQuestion) -> tuple[str, ...]:
    """What to say about right answers that are none of the choices, and the fix; empty if all
    are choices."""
    choices = asked.choices
    known = set(choices)
    near_to = list(dict.fromkeys([*choices, *asked.graded.known_values]))
    strange = Counter(value for value in values if value not in known)
    if not strange:
        return ()
    told, pairs = [], {}
    for value, rows in strange.most_common(_NAMED):
        near = nearest(value, near_to)
        told.append(
            f"{value!r} in {plural(rows, 'row')}{f' (did you mean {near}?)' if near else ''}"
        )
        pairs[value] = near and asked.graded.known_values.get(near, near)
    more = f", and {count(len(strange) - _NAMED)} more" if len(strange) > _NAMED else ""
    return (
        f"{', '.join(told)}{more}: none of the choices ({some_of(choices, 10)})",
        "correct them, leave these rows empty, or say in the job file which is which: gold: "
        f"values: {values_given(pairs)}",
    )


def _as_key(value: Any) -> str:
    """Keys in a file and in the input may have different types: they are compared as text."""
    return as_shown(value)
