"""How a row's answer is got out of an engine and read: choices, JSON, a regex, or free text."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pipeline.errors import RowError, RowErrorType
from pipeline.job.job import Job
from pipeline.model.tokenizer import Tokenizer
from pipeline.output.columns.results import RowResult
from pipeline.prompt.answer import Answer
from pipeline.prompt.answer_key import AnswerKeys
from pipeline.prompt.choices import ChoiceSearch, ChoiceTokens, Path
from pipeline.prompt.full_match import Pattern, schema_validator
from pipeline.prompt.join import Prompt, joining
from pipeline.prompt.several_answers import SeveralAnswers, draws, majority
from pipeline.rows.request import MOST_LOGPROB_IDS, Completion, Request, Structure


class Answers:
    """Makes an Answer for each prompt of a job."""

    def __init__(
        self, job: Job, tokenizer: Tokenizer, *, max_model_len: int, model_hash: str = ""
    ) -> None:
        """``model_hash`` makes keys that hold outside of this process, too."""
        label = job.label
        self._keys = AnswerKeys(job, model_hash)
        self._max_model_len = max_model_len
        self._ids: Iterator[int] = iter(range(1 << 62))
        self._choices = label.choices if label else None
        self._several = job.answers
        self._votes = label.votes if label else None
        join = joining(chat=job.messages is not None)
        self._tokens = ChoiceTokens(self._choices or (), tokenizer, join)
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
        room = self._max_model_len - len(prompt.ids)
        if room < 1:
            what = "prompt" if prompt.score_from is None else "text"
            raise RowError(
                RowErrorType.PROMPT_TOO_LONG,
                f"{what} has {len(prompt.ids)} tokens, context {self._max_model_len}",
            )
        if prompt.score_from is not None:
            return _ScoreAnswer(self, prompt, self._top_k)
        if self._choices:
            return _ChoiceAnswer(self, prompt, room)
        if prompt.sampling.max_tokens > room:
            limited = prompt.sampling.model_copy(update={"max_tokens": room})
            prompt = replace(prompt, sampling=limited)
        if self._several > 1:
            return SeveralAnswers(
                [_TextAnswer(self, one) for one in draws(prompt, self._several)],
                vote=self._votes is not None,
            )
        return _TextAnswer(self, prompt)

    def key(self, prompt: Prompt) -> bytes | None:
        """Says exactly what the answer is: prompts with the same key have the same one.

        None when the answer is drawn for its row alone (a temperature, unless the row itself
        brings a seed), or there is none (the prompt fills the context).
        """
        room = self._max_model_len - len(prompt.ids)
        return self._keys.key(prompt, room) if room > 0 else None

    def next_id(self) -> int:
        return next(self._ids)


class _TextAnswer:
    """Free text, JSON or a regex: one request, whose text is the answer."""

    def __init__(self, answers: Answers, prompt: Prompt) -> None:
        self._answers = answers
        self._prompt = prompt
        self.result: RowResult | None = None

    def start(self) -> list[Request]:
        prompt, structure = self._prompt, self._answers._structure
        return [Request(self._answers.next_id(), prompt.ids, prompt.sampling, structure)]

    def receive(self, completion: Completion) -> list[Request]:
        if completion.error is not None:
            tokens = len(self._prompt.ids)
            self.result = RowResult(error=completion.error, prompt_tokens=tokens)
            return []
        self.result = RowResult(
            completion=completion.text,
            finish_reason=completion.finish_reason,
            prompt_tokens=len(self._prompt.ids),
            completion_tokens=completion.completion_tokens,
        )
        error, fields = self._read(completion)
        if error or fields:
            self.result = replace(self.result, error=error, fields=fields)
        return []

    def _read(self, completion: Completion) -> tuple[RowError | None, dict[str, Any]]:
        trouble = None
        fields: dict[str, Any] = {}
        if self._answers._validator is not None:
            try:
                fields = json.loads(completion.text)
                json.dumps(fields, ensure_ascii=False).encode()  # half a surrogate pair is no text
            except (ValueError, RecursionError):
                trouble = "the completion is not JSON"
            else:
                trouble = _against(self._answers._validator, fields)
        elif self._answers._regex:
            matches = self._answers._regex.matches(completion.text)
            if matches is None:  # the engine wrote by it; only an end cut off would not match
                matches = completion.finish_reason != "length"
            trouble = None if matches else "the completion does not match the regex"
        if trouble is None:
            return None, fields
        if completion.finish_reason == "length":
            limit = self._prompt.sampling.max_tokens
            trouble = f"cut off at sampling.max_tokens ({limit}) before its end; raise it"
        return RowError(RowErrorType.SCHEMA_NOT_MET, trouble, attempts=1), {}


def _against(validator: Any, value: Any) -> str | None:
    """What of ``value`` is not as the schema wants it."""
    try:
        wrong = next(validator.iter_errors(value), None)
    except (RecursionError, OverflowError):
        return "the completion is nested too deeply, or its numbers are too large"
    return f"{wrong.json_path}: {wrong.message}" if wrong else None


class _ScoreAnswer:
    """The log-probabilities of tokens that are there already: one request, nothing generated."""

    def __init__(self, answers: Answers, prompt: Prompt, top_k: int) -> None:
        self._answers = answers
        self._prompt = prompt
        self._top_k = top_k
        self.result: RowResult | None = None

    def start(self) -> list[Request]:
        prompt = self._prompt
        return [
            Request(
                self._answers.next_id(),
                prompt.ids,
                prompt.sampling,
                score_from=prompt.score_from,
                top_k=self._top_k,
            )
        ]

    def receive(self, completion: Completion) -> list[Request]:
        self.result = RowResult(
            scores=completion.scores, prompt_tokens=len(self._prompt.ids), error=completion.error
        )
        return []


class _ChoiceAnswer:
    """One of the choices: a walk down their token tree."""

    def __init__(self, answers: Answers, prompt: Prompt, room: int) -> None:
        assert answers._choices is not None
        self._answers = answers
        self._prompt = prompt
        try:
            self._tree = answers._tokens.tree_for(prompt.tail)
        except ValueError as e:
            raise RowError(RowErrorType.INVALID_ROW, f"label.choices: {e}") from None
        longest = max(len(s) for s in self._tree.sequences)
        if longest > room:
            raise RowError(
                RowErrorType.PROMPT_TOO_LONG,
                f"prompt has {len(prompt.ids)} tokens and the longest choice {longest}, "
                f"context {len(prompt.ids) + room}",
            )
        self._search = ChoiceSearch(self._tree)
        self._nodes: dict[int, Path] = {}  # by request
        self._heard: dict[Path, dict[int, float]] = {}  # of nodes with too many branches for one
        self._requests = 0
        self.result: RowResult | None = None

    def start(self) -> list[Request]:
        return self._ask()

    def _ask(self) -> list[Request]:
        requests = []
        for node in self._search.next_nodes():
            branches = self._search.branches_of(node)
            for start in range(0, len(branches), MOST_LOGPROB_IDS):
                ids = branches[start : start + MOST_LOGPROB_IDS]
                request = Request(
                    self._answers.next_id(),
                    [*self._prompt.ids, *node] if node else self._prompt.ids,
                    self._prompt.sampling,
                    logprob_ids=ids,
                )
                self._nodes[request.id] = node
                requests.append(request)
        self._requests += len(requests)
        return requests

    def receive(self, completion: Completion) -> list[Request]:
        node = self._nodes.pop(completion.request_id)
        if completion.error is not None:
            self.result = RowResult(error=completion.error, prompt_tokens=len(self._prompt.ids))
            return []
        heard = {**self._heard.pop(node, {}), **completion.logprobs}
        if node in self._nodes.values():  # other branches of it are still asked for
            self._heard[node] = heard
            return []
        self._search.observe(node, heard)
        requests = self._ask()
        if not requests and not self._search.pending:
            self._conclude()
        return requests

    def _conclude(self) -> None:
        assert self._answers._choices is not None
        probabilities = self._search.probabilities()
        chosen = _draw(probabilities, self._prompt)
        confidence = probabilities[chosen]
        if self._answers._votes is not None:
            drawn = _drawn(probabilities, self._prompt, self._answers._votes)
            chosen, confidence = majority(drawn)
        label = self._answers._choices[chosen]
        self.result = RowResult(
            completion=label,
            label=label,
            confidence=confidence,
            probabilities=tuple(probabilities),
            finish_reason="stop",
            prompt_tokens=len(self._prompt.ids),
            completion_tokens=len(self._tree.sequences[chosen]),
            requests=self._requests,
        )


def _draw(probabilities: list[float], prompt: Prompt) -> int:
    """The most probable choice; at a temperature above 0, one drawn at that temperature."""
    if prompt.sampling.temperature == 0:
        return max(range(len(probabilities)), key=probabilities.__getitem__)
    return _drawn(probabilities, prompt, 1)[0]


def _drawn(probabilities: list[float], prompt: Prompt, number: int) -> list[int]:
    """So many choices, drawn at a temperature above 0.

    The draws depend on the seed and the prompt alone; without a seed on nothing.
    """
    temperature, seed = prompt.sampling.temperature, prompt.sampling.seed
    dice = random.SystemRandom() if seed is None else random.Random(f"{seed}:{prompt.ids}")
    best = max(probabilities)
    weights = [(p / best) ** (1 / temperature) for p in probabilities]
    return dice.choices(range(len(weights)), weights, k=number)
