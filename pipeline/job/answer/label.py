"""The shape of the answer that a job wants, and where the right answers are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pipeline.job.address import InputAddress
from pipeline.job.answer.answer_shape import check_regex, check_schema_size
from pipeline.job.answer.plain_schema import written_out
from pipeline.job.sampling import MOST_ANSWERS
from pipeline.job.section import Section


class Gold(Section):
    """Where right answers are: a ``column`` of the input, which may be null in most rows; or the
    column ``value`` of a file ``path``, matched to rows by the column ``key``, which is both in the
    file and in the input. ``values``: maps what stands there to the names of choices."""

    column: str | None = None
    path: InputAddress | None = None
    key: str | None = None
    value: str | None = None
    values: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        file = (self.path, self.key, self.value)
        if any(one is not None for one in file) == (self.column is not None):
            raise ValueError("give a column, or a file: path, key and value")
        if self.column is None and None in file:
            raise ValueError("a file of right answers needs path, key and value")
        return self


class Graded(Section):
    """A question for each row, and where its right answers are (``gold``), if they are known."""

    gold: str | Gold | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """The answers to choose from; none where the model writes its own."""
        return ()

    @property
    def known_values(self) -> Mapping[str, str]:
        """Value of a right answer -> its option, where the job file needs no mapping."""
        return {}

    @property
    def gold_column(self) -> str | None:
        """The input's column with right answers, if a column has them."""
        return self.gold.column if isinstance(self.gold, Gold) else self.gold

    @property
    def gold_file(self) -> Gold | None:
        """The file with right answers, if a file has them."""
        return self.gold if isinstance(self.gold, Gold) and self.gold.path is not None else None

    @property
    def gold_name(self) -> str | None:
        """The source of right answers, as messages name it: a column, or a file's name."""
        file = self.gold_file
        return self.gold_column if file is None else str(file.path).rpartition("/")[2]

    @property
    def gold_values(self) -> Mapping[str, str]:
        """Value in the gold column or file -> choice."""
        return self.gold.values if isinstance(self.gold, Gold) else {}

    @model_validator(mode="after")
    def _gold_values_are_options(self) -> Self:
        for value, choice in self.gold_values.items():
            if self.options and choice not in self.options:
                raise ValueError(f"gold: {value!r} stands for {choice!r}, which is no choice")
        return self


def texts_of(what: str) -> BeforeValidator:
    """Makes a list of answers to choose from texts; a number becomes the text that was written.
    ``what``: the name of one of them in messages."""

    def as_texts(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        if any(isinstance(one, bool) for one in value):
            raise ValueError(f'a {what} is true or false: give text, as "yes" or "true"')
        if any(one is None for one in value):
            raise ValueError(f'a {what} is null: for the word, quote it: "null"')
        if len(value) < 2:
            raise ValueError(f"give at least two {what}s")
        return tuple(str(one) if isinstance(one, int | float) else one for one in value)

    return BeforeValidator(as_texts)


def _answer_schema(value: dict[str, Any]) -> dict[str, Any]:
    from jsonschema import Draft202012Validator, SchemaError

    check_schema_size(value)
    try:
        Draft202012Validator.check_schema(value)
    except SchemaError as e:
        raise ValueError(f"not a JSON schema: {e.message}") from None
    written = written_out(value)
    if written.get("type") != "object" or not written.get("properties"):
        raise ValueError("the schema must be of type object with properties: its columns")
    return value


class Label(Graded):
    """The shape of the answer: one of ``choices``, a JSON schema, or a regular expression."""

    choices: Annotated[
        Annotated[tuple[str, ...], Field(min_length=2)] | None, texts_of("choice")
    ] = None
    json_schema: Annotated[dict[str, Any], AfterValidator(_answer_schema)] | None = None
    regex: Annotated[str, AfterValidator(check_regex)] | None = None
    # draw so many answers and take the most frequent one; its confidence is its share
    votes: Annotated[int, Field(ge=2, le=MOST_ANSWERS)] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if sum(v is not None for v in (self.choices, self.json_schema, self.regex)) != 1:
            raise ValueError("give exactly one of choices, json_schema and regex")
        if self.choices is not None:
            check_options(self.choices, "choice")
        return self

    @property
    def options(self) -> tuple[str, ...]:
        return self.choices or ()

    @cached_property
    def answer_schema(self) -> dict[str, Any] | None:
        """``json_schema`` without references: types of columns and answers are read from it."""
        return None if self.json_schema is None else written_out(self.json_schema)


def check_options(options: Sequence[str], what: str) -> None:
    """Raise ValueError unless they differ and none is empty."""
    if len(set(options)) < len(options):
        raise ValueError(f"{what}s names one {what} twice")
    if any(not one.strip() for one in options):
        raise ValueError(f"a {what} is empty")
