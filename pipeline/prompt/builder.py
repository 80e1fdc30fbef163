"""Rows to prompts: instructions, few-shot examples and the row itself, as token ids."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.errors import RowError, RowErrorType
from pipeline.job.job import ANSWER, Job, Message, MessagesColumn, Text
from pipeline.job.sampling import SAMPLING_COLUMN, Sampling
from pipeline.job.template.field_text import as_text
from pipeline.job.template.marked_text import unmarked
from pipeline.job.template.render import Row, Template, lookup
from pipeline.model.control_tokens import Parts
from pipeline.model.families.registry import chat_template_of
from pipeline.model.folder import ModelFolder
from pipeline.model.tokenizer import Tokenizer
from pipeline.prompt.join import Prompt, continuation, joined_ids, joining, open_ended, tail_of
from pipeline.prompt.question_prompts import QuestionPrompts, ended, together
from pipeline.prompt.seed import Place, row_seed
from pipeline.rows.error_reasons import NO_CONTEXT

_MOST_CHARACTERS = 2_000_000  # of a prompt: 15 for each of 131,072 tokens; text has three to five
_BETWEEN = "\n\n"  # a blank line between instructions, examples and the row


@dataclass(frozen=True, slots=True)
class _Ids:
    """A prompt that consists of token ids already."""

    ids: list[int]


def prompt_columns(job: Job, available: Sequence[str]) -> list[str]:
    """The input columns that the job's prompts need, including the per-row sampling column."""
    wanted = [f if f in available else f.split(".")[0] for f in job.prompt_fields]
    if job.score is not None and job.score.completion is not None:
        wanted.append(job.score.completion)
    if SAMPLING_COLUMN in available and job.score is None:
        wanted.append(SAMPLING_COLUMN)
    return list(dict.fromkeys(wanted))


def tokenizer_of(job: Job, model: ModelFolder) -> Tokenizer:
    """The tokenizer of a job: its model's, with the template for messages that the job names.
    Raises UsageError where a template is broken."""
    return model.tokenizer(chat_template_of(job.chat_template))


class PromptBuilder:
    """Turns rows into prompts of one job."""

    def __init__(self, job: Job, tokenizer: Tokenizer) -> None:
        self._job = job
        self._tokenizer = tokenizer
        # for the author's text; with `control` for whole prompts instead
        self._mark = tokenizer.mark if job.special_tokens == "text" else unmarked
        self._templates: dict[Text, Template | None] = {}
        self._instructions = self._mark(job.instructions) if job.instructions else ""
        self._questions = (
            QuestionPrompts(job.questions, tokenizer, self._mark) if job.questions else None
        )
        self._head = self._few_shot_head()
        self._seed = job.sampling.seed
        self._unseeded = job.sampling.model_copy(update={"seed": None})
        self._votes = job.label.votes if job.label else None
        self._score = job.score
        self._join = joining(chat=job.messages is not None)

    def build(
        self, rows: Sequence[Row], places: Sequence[Place] | None = None
    ) -> list[Prompt | RowError]:
        """A prompt for each row, or why it has none; tokenizes all rows in one call.

        ``places``: the rows' places, which their seeds depend on; None: nothing is drawn.
        """
        ready: list[list[Parts] | _Ids | RowError] = []
        for row in rows:
            try:
                ready.append(self._written(row))
            except RowError as error:
                ready.append(replace(error, message=unmarked(error.message)))
        texts = [text for one in ready if isinstance(one, list) for text in one]
        encoded = iter(self._tokenizer.encode_parts(texts))
        built: list[Prompt | RowError] = []
        for number, (row, one) in enumerate(zip(rows, ready, strict=True)):
            if isinstance(one, RowError):
                built.append(one)
                continue
            if isinstance(one, _Ids):
                read = [(one.ids, "")]
            else:
                read = [(next(encoded), _tail(text)) for text in one]
            try:
                if self._score is not None:
                    built.append(self._scored(*read[0], row))
                    continue
                place = places[number] if places is not None else None
                sampling = self._sampling(row)
                built.append(self._asked([self._drawn(*r, sampling, place) for r in read]))
            except RowError as error:
                built.append(error)
        return built

    def _asked(self, prompts: list[Prompt]) -> Prompt:
        """A row's prompt, from its own prompts: in a chat there is one for each question."""
        if self._questions is None:
            return prompts[0]
        if self._job.messages is not None:
            return together(prompts)
        return self._questions.of_row(prompts[0])

    def _drawn(self, ids: list[int], tail: str, sampling: Sampling, place: Place | None) -> Prompt:
        """With the row's seed, if the job has a seed and the row has none of its own."""
        own = sampling.seed is not None or sampling.temperature == 0
        if self._seed is None or place is None or own:
            return Prompt(ids, tail, sampling)
        seed = row_seed(self._seed, place)
        return Prompt(ids, tail, sampling.model_copy(update={"seed": seed}), own_seed=True)

    def _sampling(self, row: Row) -> Sampling:
        """The row's own sampling over the job's. The job's seed is left out: no row uses it as it
        is. Raises RowError (InvalidSampling)."""
        sampling = self._unseeded.overridden_by(row.get(SAMPLING_COLUMN))
        if self._votes and sampling.temperature == 0:
            message = f"sampling_params: at temperature 0 all {self._votes} votes are the same"
            raise RowError(RowErrorType.INVALID_SAMPLING, message)
        wrong = [i for i in sampling.stop_token_ids if i >= self._tokenizer.vocabulary]
        if wrong:  # with min_tokens the engine would look them up and crash
            message = f"stop_token_ids: {wrong[0]} is not in the vocabulary"
            raise RowError(RowErrorType.INVALID_SAMPLING, message)
        return sampling

    def _scored(self, ids: list[int], tail: str, row: Row) -> Prompt:
        """The ids that the model reads, and the first one to score. Raises RowError."""
        assert self._score is not None
        column = self._score.completion
        if column is None:
            if len(ids) < 2:  # only <bos>, or one token with nothing before it
                raise RowError(RowErrorType.INVALID_ROW, "the text is empty: nothing to score")
            return Prompt(ids, tail, self._job.sampling, score_from=1)
        answer = as_text(_value_in(row, column))
        end = tail_of(tail)
        bare = self._tokenizer.encode_plain(end)
        if self._job.special_tokens == "control":
            answer = self._tokenizer.mark(answer)
        added = joined_ids(self._tokenizer, end, bare, answer, self._join) if answer else []
        if not added:
            message = f"column {column!r} is empty: nothing to score"
            raise RowError(RowErrorType.INVALID_ROW, message)
        if not ids:  # a tokenizer without <bos>, a prompt without text
            raise RowError(RowErrorType.INVALID_ROW, "the prompt has no tokens")
        return Prompt([*ids, *added], tail, self._job.sampling, score_from=len(ids))

    def render(self, row: Row) -> str | list[int]:
        """The prompt's text (for a row with several questions: the first one's, or the text before
        them), or its token ids if a column holds those. Raises RowError."""
        rendered = self._rendered(row)
        return unmarked(rendered[0]) if isinstance(rendered, list) else rendered.ids

    def read_as_text(self, row: Row) -> str | None:
        """The first name of a control token that the model sees as text in a row's prompt."""
        try:
            written = self._written(row)
        except RowError:
            return None
        parts = [p for one in written for p in one] if isinstance(written, list) else []
        names = (self._tokenizer.control_token_in(p) for p in parts if isinstance(p, str))
        return next((name for name in names if name is not None), None)

    def _written(self, row: Row) -> list[Parts] | _Ids:
        """The prompts' texts, split, or token ids. Raises RowError."""
        rendered = self._rendered(row)
        if not isinstance(rendered, list):
            _of_any_use(rendered.ids)
            return rendered
        return [self._apart(text) for text in rendered]

    def _apart(self, text: str) -> Parts:
        """``text``, split at control tokens."""
        _of_any_use(text)
        if self._job.special_tokens == "control":
            text = self._tokenizer.mark(text)
        return _texts_checked(self._tokenizer.parts(text))

    def _rendered(self, row: Row) -> list[str] | _Ids:
        """The prompt's text, marked (in a chat with several questions: one for each), or its token
        ids. Raises RowError."""
        if self._job.messages is not None:
            messages = self._messages(self._job.messages, row)
            each = self._questions.in_chat(messages) if self._questions else [messages]
            return [self._tokenizer.marked_chat(one) for one in each]
        assert self._job.prompt is not None  # the job model checks this
        body = self._content(self._job.prompt, row)
        if not isinstance(body, str):
            known = range(self._tokenizer.vocabulary)
            if isinstance(body, list) and body and all(type(i) is int for i in body):
                if all(i in known for i in body):
                    return _Ids(body)
                raise RowError(RowErrorType.INVALID_ROW, "a token id is not in the vocabulary")
            raise RowError(RowErrorType.INVALID_ROW, "the prompt is neither text nor token ids")
        if self._score is not None and self._score.completion is None:
            return [body]  # scored as it stands
        return [ended(self._head + body) if self._questions else open_ended(self._head + body)]

    def _messages(
        self, spec: tuple[Message, ...] | MessagesColumn, row: Row
    ) -> list[dict[str, Any]]:
        if isinstance(spec, MessagesColumn):
            messages = _messages_in(row, spec.column)
        else:
            messages = [
                {"role": m.role, "content": as_text(self._content(m.content, row))} for m in spec
            ]
        if self._instructions:
            messages = [{"role": "system", "content": self._instructions}, *messages]
        return messages

    def _content(self, text: Text, row: Row) -> Any:
        if text not in self._templates:
            compiled = text.compiled
            self._templates[text] = compiled.marked(self._mark) if compiled else None
        template = self._templates[text]
        if template is not None:
            return template.render(row)
        return _value_in(row, str(text.column))

    def _few_shot_head(self) -> str:
        """The text before every row's own text: equal for all rows, so it is computed once."""
        job = self._job
        if job.prompt is None:
            return ""
        parts = [self._instructions] if self._instructions else []
        for example in job.examples:
            rendered = self._content(job.prompt, example)
            if self._questions is not None:
                parts += self._questions.of_example(rendered, example[ANSWER])
                continue
            answer = as_text(example[ANSWER])
            parts.append(open_ended(rendered) + continuation(rendered, answer))
        return "".join(part + _BETWEEN for part in parts)


def _tail(parts: Parts) -> str:
    """The text that an answer's tokens join, since no token merges across a control token."""
    last = parts[-1] if parts else ""
    return last if isinstance(last, str) else ""


def _of_any_use(prompt: str | list[int]) -> None:
    """Raises RowError (PromptTooLong) if ``prompt`` fits no context."""
    if len(prompt) > _MOST_CHARACTERS:
        unit = "characters" if isinstance(prompt, str) else "tokens"
        message = f"prompt has {len(prompt)} {unit}, {NO_CONTEXT}"
        raise RowError(RowErrorType.PROMPT_TOO_LONG, message)


def _texts_checked(parts: Parts) -> Parts:
    """``parts``, if the texts among them are valid. Raises RowError."""
    try:
        for part in parts:
            if isinstance(part, str):
                part.encode()
    except UnicodeEncodeError:
        message = "the prompt holds half a surrogate pair, which is no text"
        raise RowError(RowErrorType.INVALID_ROW, message) from None
    return parts


def _value_in(row: Row, column: str) -> Any:
    value = lookup(row, column)
    if value is None:
        raise RowError(RowErrorType.INVALID_ROW, f"column {column!r} is null")
    return value


def _messages_in(row: Row, column: str) -> list[dict[str, Any]]:
    value = _value_in(row, column)
    try:
        messages = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        messages = None
    well_formed = (
        isinstance(messages, list)
        and messages
        and all(
            isinstance(m, Mapping) and m.get("role") and isinstance(m.get("content"), str)
            for m in messages
        )
    )
    if not well_formed:
        raise RowError(
            RowErrorType.INVALID_ROW, f"column {column!r} is not a list of {{role, content}}"
        )
    return [dict(m) for m in messages]
