"""How a row's answer is requested from an engine and read: choices, JSON, a regex, or free text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from pipeline.errors import RowError, RowErrorType
from pipeline.job.job import Job
from pipeline.model.tokenizer import Tokenizer
from pipeline.output.columns.results import RowResult
from pipeline.prompt.answer import Answer, OneRequest
from pipeline.prompt.answer_key import AnswerKeys
from pipeline.prompt.choice_answer import ChoiceAnswer, ChoiceQuestion
from pipeline.prompt.choices import ChoiceTokens
from pipeline.prompt.each_question import EachQuestion
from pipeline.prompt.full_match import Pattern, schema_validator
from pipeline.prompt.join import Prompt, joining
from pipeline.prompt.several_answers import SeveralAnswers, draws
from pipeline.prompt.written_choice import written_choice
from pipeline.rows.request import Completion, Request, Structure


class Answers:
    """Creates an Answer for each prompt of a job."""

    def __init__(
        self,
        job: Job,
        tokenizer: Tokenizer,
        *,
        max_model_len: int,
        model_hash: str = "",
        logprobs: bool = True,
        held: tuple[str, ...] = (),
    ) -> None:
        """``model_hash``: with it, keys are valid outside this process too. ``logprobs``, ``held``:
        of the engine (see ``EngineFacts``)."""
        self._logprobs, self._held = logprobs, held
        label = job.label
        self._keys = AnswerKeys(job, model_hash)
        self._max_model_len = max_model_len
        self._ids: Iterator[int] = iter(range(1 << 62))
        self._several = job.answers
        self._votes = label.votes if label else None
        join = joining(chat=job.messages is not None)
        self._asked = [
            ChoiceQuestion(one, ChoiceTokens(one.choices, tokenizer, join), self._votes)
            for one in job.asked
        ]
        self._top_k = (job.score.top_k or 0) if job.score else 0
        schema = label.json_schema if label else None
        self._validator = schema_validator(schema) if schema else None
        self._regex = Pattern(label.regex, whole=True) if label and label.regex else None
        self._structure = (
            Structure(json.dumps(label.answer_schema) if schema else None, label.regex)
            if label and not label.choices
            else None
        )

    def answer(self, prompt: Prompt) -> Answer:
        """The Answer for one prompt. Raises RowError (PromptTooLong, InvalidSampling)."""
        room = self._max_model_len - prompt.longest
        if room < 1:
            what = "prompt" if prompt.score_from is None else "text"
            raise RowError(
                RowErrorType.PROMPT_TOO_LONG,
                f"{what} has {prompt.longest} tokens, context {self._max_model_len}",
            )
        if prompt.score_from is not None:
            request = Request(
                self.next_id(),
                prompt.ids,
                prompt.sampling,
                score_from=prompt.score_from,
                top_k=self._top_k,
            )
            return OneRequest(request, lambda completion: RowResult(scores=completion.scores))
        if prompt.asked:
            return EachQuestion(self._asked, prompt, self._choice, self._max_model_len)
        if self._asked:
            return self._choice(self._asked[0], prompt, room)
        if prompt.sampling.max_tokens > room:
            limited = prompt.sampling.model_copy(update={"max_tokens": room})
            prompt = replace(prompt, sampling=limited)
        if self._several > 1:
            return SeveralAnswers(
                [self._text(one) for one in draws(prompt, self._several)],
                vote=self._votes is not None,
            )
        return self._text(prompt)

    def _text(self, prompt: Prompt) -> Answer:
        """Free text, JSON or a regex."""
        request = Request(self.next_id(), prompt.ids, prompt.sampling, self._structure)
        return OneRequest(request, partial(self._read, prompt.sampling.max_tokens))

    def _read(self, max_tokens: int, completion: Completion) -> RowResult:
        trouble = error = None
        fields: dict[str, Any] = {}
        if self._validator is not None:
            try:
                fields = json.loads(completion.text)
                json.dumps(fields, ensure_ascii=False).encode()  # half a surrogate pair is not text
            except (ValueError, RecursionError):
                trouble = "the completion is not JSON"
            else:
                trouble = _against(self._validator, fields)
        elif self._regex:
            matches = self._regex.matches(completion.text)
            if matches is None:  # the engine kept to it; only a cut-off end would not match
                matches = completion.finish_reason != "length"
            trouble = None if matches else "the completion does not match the regex"
        if trouble is not None:
            if completion.finish_reason == "length":
                trouble = f"cut off at sampling.max_tokens ({max_tokens}) before its end; raise it"
            error, fields = RowError(RowErrorType.SCHEMA_NOT_MET, trouble, attempts=1), {}
        return RowResult(
            completion=completion.text,
            finish_reason=completion.finish_reason,
            completion_tokens=completion.completion_tokens,
            fields=fields,
            error=error,
        )

    def _choice(self, question: ChoiceQuestion, prompt: Prompt, room: int) -> Answer:
        if self._logprobs:
            return ChoiceAnswer(question, prompt, self.next_id, room)
        return written_choice(question, prompt, self.next_id, room, self._held)

    def key(self, prompt: Prompt) -> bytes | None:
        """Identifies the answer: prompts with the same key have the same answer.

        None if the answer is drawn for this row alone (a temperature, unless the row itself has a
        seed), or if there is none (the prompt fills the context).
        """
        room = self._max_model_len - prompt.longest
        return self._keys.key(prompt, room) if room > 0 else None

    def next_id(self) -> int:
        return next(self._ids)


def _against(validator: Any, value: Any) -> str | None:
    """How ``value`` violates the schema; None if it does not."""
    try:
        wrong = next(validator.iter_errors(value), None)
    except (RecursionError, OverflowError):
        return "the completion is nested too deeply, or its numbers are too large"
    return f"{wrong.json_path}: {wrong.message}" if wrong else None
