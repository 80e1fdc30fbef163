"""Several answers of one row: several draws from the same prompt, kept together or voting.

Each answer is a separate request with the same prompt, not vLLM's ``n``. So the packer counts every
answer's blocks like those of any other request, and shares the prompt's blocks as between rows that
begin alike; each answer waits for room separately; and a row's timeout, its loss with an engine and
its place in a resume are those of any row with several requests, such as one with choices. With the
prefix cache on, the prompt is computed once: equal prompts share all their whole blocks.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from pipeline.errors import RowError
from pipeline.output.columns.results import RowResult
from pipeline.prompt.answer import Answer
from pipeline.prompt.join import Prompt
from pipeline.prompt.seed import answer_seed
from pipeline.rows.request import Completion, Request

H = TypeVar("H", bound=Hashable)


def draws(prompt: Prompt, number: int) -> Iterator[Prompt]:
    """``number`` copies of ``prompt``; if it has a seed, each copy gets its own."""
    seed = prompt.sampling.seed
    for answer in range(number):
        if seed is None:
            yield prompt
        else:
            own = prompt.sampling.model_copy(update={"seed": answer_seed(seed, answer)})
            yield replace(prompt, sampling=own)


def majority(votes: Sequence[H]) -> tuple[H, float]:
    """The most frequent of ``votes``, and its share; of equally frequent ones, the first."""
    [(winner, number)] = Counter(votes).most_common(1)
    return winner, number / len(votes)


class SeveralAnswers:
    """One row's answers in progress. The row has its result when all have theirs, or when an
    engine refuses one."""

    def __init__(self, answers: Sequence[Answer], *, vote: bool) -> None:
        """``vote``: the most frequent answer becomes the row's answer."""
        self._answers = answers
        self._vote = vote
        self._asking: dict[int, Answer] = {}  # by request
        self.result: RowResult | None = None

    def start(self) -> list[Request]:
        requests = []
        for answer in self._answers:
            [request] = answer.start()
            self._asking[request.id] = answer
            requests.append(request)
        return requests

    def receive(self, completion: Completion) -> list[Request]:
        answer = self._asking.pop(completion.request_id)
        answer.receive(completion)
        if completion.error is not None:
            self.result = answer.result
        elif not self._asking:
            results = tuple(a.result for a in self._answers if a.result is not None)
            self.result = _elected(results) if self._vote else _together(results)
        return []


def _together(results: tuple[RowResult, ...]) -> RowResult:
    """All of them. The row has an error if one of them has one."""
    wrong = [(n, r.error) for n, r in enumerate(results, 1) if r.error is not None]
    error = _told(*wrong[0], len(results)) if wrong else None
    return replace(_sums(results), error=error)


def _elected(results: tuple[RowResult, ...]) -> RowResult:
    """The most frequent answer; its share is of all, including invalid ones."""
    valid = [r for r in results if r.error is None]
    if not valid:
        assert results[0].error is not None
        return replace(_sums(results), error=_told(1, results[0].error, len(results)))
    said, _ = majority([_said(r) for r in valid])
    alike = [r for r in valid if _said(r) == said]
    return replace(
        _sums(results),
        completion=alike[0].completion,
        fields=alike[0].fields,
        finish_reason=alike[0].finish_reason,
        confidence=len(alike) / len(results),
    )


def _sums(results: tuple[RowResult, ...]) -> RowResult:
    return RowResult(
        prompt_tokens=results[0].prompt_tokens,
        completion_tokens=sum(r.completion_tokens for r in results),
        requests=len(results),
        answers=results,
    )


def _said(result: RowResult) -> str:
    """Equal for answers with the same meaning: for JSON its values count, not the formatting."""
    return json.dumps(result.fields, sort_keys=True) if result.fields else result.completion or ""


def _told(number: int, error: RowError, of: int) -> RowError:
    return replace(error, message=f"answer {number} of {of}: {error.message}")
