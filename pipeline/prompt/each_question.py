"""All questions of one row in progress: at the same time, so the row's text is still cached, and
each in separate requests, so no question sees another's answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pipeline.errors import RowError
from pipeline.output.columns.results import RowResult
from pipeline.prompt.answer import Answer
from pipeline.prompt.choice_answer import ChoiceQuestion
from pipeline.prompt.join import Prompt
from pipeline.rows.request import Completion, Request


class EachQuestion:
    """The row has its result when all questions have theirs, or when an engine refuses one."""

    def __init__(
        self,
        questions: Sequence[ChoiceQuestion],
        prompt: Prompt,
        answer_to: Callable[[ChoiceQuestion, Prompt, int], Answer],
        context: int,
    ) -> None:
        """``answer_to``: makes the Answer to a question, from a prompt and the tokens that the
        context leaves for it. ``context``: most tokens of prompt and answer. Raises RowError."""
        self._prompt = prompt
        self._answers: list[Answer] = []
        self._names = [question.asked.name for question in questions]
        for question, own in zip(questions, prompt.asked, strict=True):
            try:
                self._answers.append(answer_to(question, own, context - len(own.ids)))
            except RowError as error:
                raise _of(question.asked.name, error) from None
        self._asking: dict[int, int] = {}  # request -> question
        self._row: int | None = None  # the first request's id
        self.result: RowResult | None = None

    def start(self) -> list[Request]:
        requests: list[Request] = []
        for number, answer in enumerate(self._answers):
            requests += self._noted(number, answer.start())
        return requests

    def receive(self, completion: Completion) -> list[Request]:
        number = self._asking.pop(completion.request_id)
        requests = self._noted(number, self._answers[number].receive(completion))
        if completion.error is not None:
            error = _of(self._names[number], completion.error)
            self.result = RowResult(error=error, prompt_tokens=self._prompt.tokens)
        elif not self._asking:
            self.result = self._together()
        return requests

    def _noted(self, number: int, requests: list[Request]) -> list[Request]:
        for request in requests:
            self._row = request.id if self._row is None else self._row
            request.row = self._row
            self._asking[request.id] = number
        return requests

    def _together(self) -> RowResult:
        results = tuple(answer.result for answer in self._answers if answer.result is not None)
        return RowResult(
            finish_reason="stop",
            prompt_tokens=self._prompt.tokens,
            completion_tokens=sum(one.completion_tokens for one in results),
            requests=sum(one.requests for one in results),
            answers=results,
        )


def _of(name: str, error: RowError) -> RowError:
    return replace(error, message=f"question {name!r}: {error.message}")
