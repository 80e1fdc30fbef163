"""The job file as frozen models: the only place that says what a key means."""

from __future__ import annotations

import codecs
from functools import cached_property
from posixpath import normpath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from pipeline.job.address import Address, InputAddress
from pipeline.job.answer.label import Graded, Label
from pipeline.job.answer.questions import (
    LABEL_COLUMNS,
    MOST_QUESTIONS,
    AskedQuestion,
    Question,
    QuestionName,
    asked_of,
    check_names,
    example_answers,
)
from pipeline.job.duplicates import Duplicates
from pipeline.job.engine import EngineSettings
from pipeline.job.registries.input_formats import INPUT_FORMATS
from pipeline.job.resources import Faults, Resources
from pipeline.job.sampling import Sampling
from pipeline.job.section import Section
from pipeline.job.template.render import Template, TemplateSyntaxError, lookup
from pipeline.job.trust import Trust
from pipeline.job.when.schedule import Schedule

ANSWER = "answer"


# encodings of bytes or host names, such as base64 and idna, cannot represent it
_SOME_TEXT = '{"a": [1, 2]}\r\n' + "x" * 99


class Input(Section):
    """Where the rows come from. ``path``: a file, folder or glob, any fsspec address.
    ``skip_rows``: how many rows to skip at the beginning of single files (named as ``path`` finds
    them). ``cast``: columns that get another type than the files say, such as text for a column
    whose type differs between files. ``partitioning``: whether folders named ``key=value`` are
    columns; ``auto``: those below ``path``. ``delimiter``: between the cells of CSV; ``auto``: as a
    file's name or header says. ``quotes``: they surround cells of CSV (``double``), or are letters
    (``none``); by default they surround cells, and an ambiguous file with tabs is refused.
    ``encoding``: of CSV and JSONL that are not UTF-8, under Python's name.
    """

    path: InputAddress | Annotated[tuple[InputAddress, ...], Field(min_length=1)]
    format: Annotated[str, AfterValidator(INPUT_FORMATS.known)] | None = None
    skip_rows: dict[InputAddress, Annotated[int, Field(ge=1, lt=1 << 40)]] = Field(
        default_factory=dict
    )
    cast: dict[str, Literal["string", "int64", "float64", "bool", "date", "timestamp"]] = Field(
        default_factory=dict
    )
    partitioning: Literal["auto", "hive", "none"] = "auto"
    delimiter: str = "auto"
    quotes: Literal["double", "none"] | None = None
    encoding: str | None = None

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str) -> str:
        if value != "auto" and (len(value) != 1 or not value.isascii() or value in '"\r\n\0'):
            raise ValueError('give one ASCII character, as ";" or "\\t", or auto')
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            pieces = (bytes([byte]) for byte in _SOME_TEXT.encode(value))
            if "".join(codecs.iterdecode(pieces, value)) != _SOME_TEXT:
                raise ValueError
            return codecs.lookup(value).name
        except (LookupError, ValueError):
            raise ValueError(
                f"{value!r} is no encoding of text that Python knows: utf-8, cp1252, latin-1, "
                "utf-16, …"
            ) from None


class Output(Section):
    """Where the dataset goes, and which input columns it keeps (None: all).

    ``n``: several answers of a row (``sampling.n``) become a row each, or lists in one row.
    """

    path: Address
    keep: tuple[str, ...] | None = None
    n: Literal["lists", "rows"] = "lists"

    @field_validator("keep")
    @classmethod
    def _each_once(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in value or ():
            if value and value.count(name) > 1:
                raise ValueError(f"{name!r} is named twice")
        return value


class Text(Section):
    """A prompt or a message's content: a template, Jinja, or a column that holds it."""

    template: str | None = None
    jinja: str | None = None
    column: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain_text_is_a_template(cls, value: Any) -> Any:
        return {"template": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if sum(v is not None for v in (self.template, self.jinja, self.column)) != 1:
            raise ValueError("give a text, or exactly one of {jinja: …} and {column: …}")
        try:
            _ = self.compiled
        except TemplateSyntaxError as e:
            raise ValueError(str(e)) from None
        return self

    @property
    def compiled(self) -> Template | None:
        """The template; None when a column holds the text."""
        if self.template is not None:
            return Template(self.template)
        return Template(self.jinja, jinja=True) if self.jinja is not None else None

    @property
    def fields(self) -> tuple[str, ...]:
        template = self.compiled
        return template.fields if template else (str(self.column),)


class Message(Section):
    role: Literal["system", "user", "assistant"]
    content: Text


class MessagesColumn(Section):
    """A column that holds a list of {role, content}."""

    column: str


Messages = Annotated[
    Annotated[tuple[Message, ...], Tag("[list]")] | Annotated[MessagesColumn, Tag("[column]")],
    Discriminator(lambda v: "[column]" if isinstance(v, dict | MessagesColumn) else "[list]"),
]


class Score(Section):
    """Score texts instead of writing any: the log-probability of every token of the rows' texts.

    Without ``completion`` the whole prompt is scored. ``completion``: a column whose text follows
    the prompt; then only that text's tokens are scored. ``top_k`` implies ``per_token``.
    """

    completion: str | None = None
    per_token: bool = False  # also the tokens, with the log-probability of each
    top_k: Annotated[int, Field(ge=1, le=16_384)] | None = None  # also the most likely tokens

    @property
    def lists(self) -> bool:
        """Whether there is a list entry for every scored token."""
        return self.per_token or self.top_k is not None


class Job(Section):
    """One batch-inference job: a model, rows, a prompt, the form of answers, and an output."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    model: Address
    input: Input
    prompt: Text | None = None
    messages: Messages | None = None
    # how messages become a prompt: a family's format (gemma3), a Jinja template; None: the model's
    chat_template: str | None = None
    instructions: str | None = None  # before everything else (chat: the system message)
    examples: tuple[dict[str, Any], ...] = ()  # few-shot: the prompt's fields, and `answer`
    # how a control token's name in a row is read: as plain text, or as the token
    special_tokens: Literal["text", "control"] = "text"
    output: Output
    label: Label | None = None
    questions: (
        Annotated[dict[QuestionName, Question], Field(min_length=1, max_length=MOST_QUESTIONS)]
        | None
    ) = None
    score: Score | None = None
    sampling: Sampling = Sampling()
    engine: EngineSettings = EngineSettings()
    duplicates: Duplicates = Duplicates()
    resources: Resources = Resources()
    faults: Faults = Faults()
    trust: Trust = Trust()
    schedule: Schedule | None = None

    @model_validator(mode="before")
    @classmethod
    def _first_of_the_engines(cls, value: Any) -> Any:
        resources = value.get("resources") if isinstance(value, dict) else None
        engines = resources.get("engines") if isinstance(resources, dict) else None
        if not isinstance(engines, list | tuple) or not engines or value.get("engine") is not None:
            return value
        first = engines[0]
        return {**value, "engine": {"kind": first} if isinstance(first, str) else first}

    @model_validator(mode="after")
    def _engine_is_one_of_them(self) -> Self:
        if self.engine not in self.engines:
            raise ValueError(
                f"engine: its kind, {self.engine.kind}, is not among resources.engines: name it "
                "there, or leave engine away"
            )
        return self

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        if self.chat_template is not None and self.messages is None:
            raise ValueError("chat_template is about messages: give messages, or leave it away")
        return self

    @model_validator(mode="after")
    def _examples_fit_the_prompt(self) -> Self:
        if not self.examples:
            return self
        if self.prompt is None or self.prompt.column is not None:
            raise ValueError("examples need a prompt template, whose fields they fill")
        for number, example in enumerate(self.examples, 1):
            if ANSWER not in example:
                raise ValueError(f"example {number} has no {ANSWER!r}")
            missing = [f for f in self.prompt.fields if lookup(example, f) is None]
            if missing:
                raise ValueError(f"example {number} lacks the prompt's field {missing[0]!r}")
            choices = self.label.choices if self.label else None
            if choices and str(example[ANSWER]) not in choices:
                raise ValueError(f"example {number}: its answer is not one of the choices")
            try:
                if self.questions is not None:
                    example_answers(example[ANSWER], self.questions)
            except ValueError as e:
                raise ValueError(f"example {number}: {e}") from None
        return self

    @model_validator(mode="after")
    def _scoring_writes_nothing(self) -> Self:
        if self.score is None:
            return self
        if self.label is not None:
            raise ValueError("give either label or score: a score job writes no answer")
        if self.sampling != Sampling():
            raise ValueError("sampling does not go with score: nothing is sampled")
        if self.score.completion is None:
            if self.messages is not None:
                raise ValueError("score of messages needs {completion: COLUMN}: the reply to score")
            if self.instructions or self.examples:
                raise ValueError(
                    "score without completion scores all of the prompt: leave instructions and "
                    "examples away, or name the column to score: {completion: COLUMN}"
                )
        return self

    @model_validator(mode="after")
    def _questions_are_all_that_is_asked(self) -> Self:
        if self.questions is None:
            return self
        for key, given in (("label", self.label), ("score", self.score)):
            if given is not None:
                raise ValueError(f"give either {key} or questions: label is one question's form")
        if self.sampling.n > 1:
            raise ValueError(
                f"sampling.n: {self.sampling.n} does not go with questions, whose probabilities "
                "are known after one answer: leave it away"
            )
        check_names(self.questions)
        return self

    @model_validator(mode="after")
    def _several_answers_tell_something(self) -> Self:
        label, n = self.label, self.sampling.n
        if n > 1 and label is not None and label.choices is not None:
            raise ValueError(
                f"sampling.n: {n} does not go with choices, whose probabilities are known after "
                f"one answer: leave it away, or vote: label: {{votes: {n}}}"
            )
        if n == 1 and self.output.n == "rows":
            raise ValueError("output.n: rows is for several answers of a row: set sampling.n")
        if label is not None and label.votes is not None:
            if n > 1:
                raise ValueError("give either sampling.n or label.votes: votes make one answer")
            if self.sampling.temperature == 0:
                raise ValueError(
                    f"at temperature 0 all {label.votes} votes would be the same: give "
                    "sampling.temperature, say 1.0, or leave label.votes away"
                )
        return self

    @model_validator(mode="after")
    def _the_store_is_not_the_output(self) -> Self:
        store, output = self.duplicates.store, normpath(self.output.path)
        if store is not None and f"{normpath(store)}/".startswith(f"{output}/"):
            raise ValueError("duplicates.store must lie outside of output.path")
        return self

    def __repr__(self) -> str:
        path = self.input.path
        source = path if isinstance(path, str) else f"{len(path)} paths"
        return f"Job({self.name}: {self.model}, {source} → {self.output.path})"

    __str__ = __repr__

    @property
    def engines(self) -> tuple[EngineSettings, ...]:
        """The engines that work on it side by side; most jobs have one."""
        named = self.resources.engines
        if named is None:
            return (self.engine,)
        return tuple(
            self.engine if one.is_kind_alone and one.kind == self.engine.kind else one
            for one in named
        )

    @property
    def computes(self) -> bool:
        """Whether any of its engines computes a model, and needs cards or a processor for it."""
        return any(engine.computes for engine in self.engines)

    @property
    def as_computed(self) -> Job:
        """The job with the engine that needs cards, if there is one."""
        return self.with_engine(next((e for e in self.engines if e.computes), self.engine))

    def with_engine(self, engine: EngineSettings) -> Job:
        """The job as a worker with this one of its engines sees it."""
        return self if engine == self.engine else self.model_copy(update={"engine": engine})

    @property
    def answers(self) -> int:
        """Answers that an engine writes per row. Votes for choices are drawn from probabilities."""
        votes = self.label.votes if self.label and self.label.choices is None else None
        return votes or self.sampling.n

    @cached_property
    def asked(self) -> tuple[AskedQuestion, ...]:
        """The questions of each row that have answers to choose from: several, the one of
        ``label.choices``, or none."""
        if self.questions is not None:
            return asked_of(self.questions)
        if self.label is None or self.label.choices is None:
            return ()
        return (AskedQuestion("label", "choice", self.label, LABEL_COLUMNS),)

    @property
    def graded(self) -> dict[str, Graded]:
        """All parts that may have right answers, by the key that says where these are."""
        if self.questions is not None:
            return {f"questions.{name}.gold": one for name, one in self.questions.items()}
        return {} if self.label is None else {"label.gold": self.label}

    @property
    def gold_columns(self) -> tuple[str, ...]:
        """The input columns that hold right answers."""
        named = [one.gold_column for one in self.graded.values()]
        return tuple(dict.fromkeys(name for name in named if name is not None))

    @property
    def generates(self) -> bool:
        """Whether answers are generated token by token; otherwise texts or choices are scored."""
        return self.score is None and not self.asked

    @property
    def longest_answer(self) -> int:
        """Tokens that a request may generate, unless a row has its own limit."""
        return self.sampling.max_tokens if self.generates else 1

    @property
    def prompt_fields(self) -> tuple[str, ...]:
        """The input columns that the prompt reads, in order of first use."""
        if isinstance(self.messages, MessagesColumn):
            return (self.messages.column,)
        texts = [self.prompt] if self.prompt else [m.content for m in self.messages or ()]
        return tuple(dict.fromkeys(f for t in texts for f in t.fields))
