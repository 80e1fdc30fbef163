"""Several questions about one row: what each asks, how it is answered, how its columns are named.

A job with ``label.choices`` asks one question without a text of its own: the prompt asks it.
``Job.asked`` has all questions of a job in one form, so the code that handles answers is the same
for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline.errors import did_you_mean, some_of
from pipeline.job.answer.label import Graded, check_options, texts_of

MOST_QUESTIONS = 200  # as in OpenAI's decisions, like the next two
MOST_CHOICES = 255
MOST_LEVELS = 10
NO, YES = "no", "yes"
# how people and tables write yes and no, in small letters, capitals or with one capital
_WORDS = {YES: ("yes", "true", "y", "t", "1", "1.0"), NO: ("no", "false", "n", "f", "0", "0.0")}
_TRUTHS = {
    form: answer
    for answer, words in _WORDS.items()
    for word in words
    for form in (word, word.capitalize(), word.upper())
}
# columns of a question job besides those of its questions
ROW_COLUMNS = ("prompt_tokens", "completion_tokens", "error")

Kind = Literal["choice", "predicate", "score"]
QuestionName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


def _says_something(value: str) -> str:
    if not value.strip():
        raise ValueError("the text is empty")
    return value


_AskText = Annotated[str, Field(min_length=1, max_length=10_000), AfterValidator(_says_something)]


class Question(Graded):
    """One question for each row: one of ``choices``; a ``predicate``, answered with yes or no; or a
    ``score``, whose levels go from the lowest to the highest.

    ``ask`` stands after the row's text, and the answer after it.
    """

    ask: _AskText | None = None
    choices: Annotated[
        Annotated[tuple[str, ...], Field(min_length=2, max_length=MOST_CHOICES)] | None,
        texts_of("choice"),
    ] = None
    predicate: _AskText | None = None
    score: Annotated[
        Annotated[tuple[str, ...], Field(min_length=2, max_length=MOST_LEVELS)] | None,
        texts_of("level"),
    ] = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(v is not None for v in (self.choices, self.predicate, self.score)) != 1:
            raise ValueError("give exactly one of choices, predicate and score")
        if self.predicate is not None and self.ask is not None:
            raise ValueError("a predicate is what is asked: leave ask away")
        if self.predicate is None and self.ask is None:
            raise ValueError('say what is asked: ask: "Sentiment:"')
        check_options(self.options, "level" if self.score else "choice")
        return self

    @property
    def kind(self) -> Kind:
        return "choice" if self.choices else "predicate" if self.predicate else "score"

    @property
    def options(self) -> tuple[str, ...]:
        return self.choices or self.score or (NO, YES)

    @property
    def known_values(self) -> Mapping[str, str]:
        return _TRUTHS if self.predicate is not None else {}

    @property
    def text(self) -> str:
        """The text between the row's text and the answer."""
        return self.ask if self.ask is not None else f"{self.predicate} Yes or no:"


@dataclass(frozen=True)
class AnswerColumns:
    """The names of one question's columns. ``confidence``: for a predicate, the probability of yes;
    ``expectation``: only for a score; ``label_set``: where ``trust.label_sets`` asks for it."""

    answer: str
    confidence: str
    accepted: str
    raw_confidence: str
    probabilities: str
    label_set: str
    expectation: str | None = None

    def __iter__(self) -> Iterator[str]:
        """The columns that always exist, in their order."""
        yield from (self.answer, self.confidence)
        if self.expectation is not None:
            yield self.expectation
        yield from (self.accepted, self.raw_confidence, self.probabilities)


@dataclass(frozen=True)
class AskedQuestion:
    """One question of a job, in the form that all code reading answers uses."""

    name: str
    kind: Kind
    graded: Graded
    columns: AnswerColumns
    text: str | None = None  # None: the prompt asks the question

    @property
    def gold_key(self) -> str:
        """The job file's key for its right answers."""
        return "label.gold" if self.text is None else f"questions.{self.name}.gold"

    @property
    def key(self) -> str:
        """The job file's key for its choices."""
        if self.text is None:
            return "label.choices"
        return f"questions.{self.name}" + (f".{self.kind}s" if self.kind == "choice" else "")

    @property
    def choices(self) -> tuple[str, ...]:
        """The answers: for a predicate no and yes, for a score its levels, lowest first."""
        return self.graded.options


# of a job with ``label.choices``
LABEL_COLUMNS = AnswerColumns(
    "label", "confidence", "accepted", "raw_confidence", "probabilities", "label_set"
)


def asked_of(questions: Mapping[str, Question]) -> tuple[AskedQuestion, ...]:
    """The questions in their order."""
    return tuple(
        AskedQuestion(name, one.kind, one, columns_of(name, one.kind), one.text)
        for name, one in questions.items()
    )


def columns_of(name: str, kind: Kind) -> AnswerColumns:
    """The names of the columns of the question ``name``."""
    sure = "probability" if kind == "predicate" else "confidence"
    return AnswerColumns(
        name,
        f"{name}_{sure}",
        f"{name}_accepted",
        f"{name}_raw_confidence",
        f"{name}_probabilities",
        f"{name}_label_set",
        f"{name}_expectation" if kind == "score" else None,
    )


def check_names(questions: Mapping[str, Question]) -> None:
    """Raise ValueError unless all their columns have different names."""
    whose = dict.fromkeys(ROW_COLUMNS, "every row has")
    for asked in asked_of(questions):
        for column in (*asked.columns, asked.columns.label_set):
            if column in whose:
                raise ValueError(
                    f"question {asked.name!r} has a column {column!r}, which {whose[column]} too: "
                    "give it another name"
                )
            whose[column] = f"question {asked.name!r} has"


def example_answers(answer: Any, questions: Mapping[str, Question]) -> dict[str, str]:
    """The answers of a few-shot example: question -> one of its choices. Raises ValueError."""
    if not isinstance(answer, Mapping) or not answer:
        names = ", ".join(f"{name}: …" for name in list(questions)[:3])
        raise ValueError(f"of a job with questions say which it answers: answer: {{{names}}}")
    found: dict[str, str] = {}
    for name, value in answer.items():
        question = questions.get(str(name))
        if question is None:
            near = did_you_mean(str(name), questions, "{!r}")
            raise ValueError("; ".join([f"it answers {name!r}, which is no question", *near]))
        text = value if isinstance(value, str) else str(value).lower()
        if question.predicate is not None:
            text = _TRUTHS.get(text, text)
        if text not in question.options:
            raise ValueError(f"its answer to {name!r} is not one of {some_of(question.options)}")
        found[str(name)] = text
    return found
