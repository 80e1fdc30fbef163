"""Rows to answers in one process, without files, leases or admission: for a handful of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.engine.failure.oom_errors import as_failure
from pipeline.engine.protocol import Engine
from pipeline.errors import RowError
from pipeline.job.job import Job
from pipeline.model.tokenizer import Tokenizer
from pipeline.output.columns.results import RowResult
from pipeline.prompt.answer import Answer
from pipeline.prompt.answers import Answers
from pipeline.prompt.builder import PromptBuilder
from pipeline.rows.request import Request

Row = Mapping[str, Any]


@dataclass(frozen=True)
class RowPlace:
    """Which row it is: its seed is derived from this."""

    file: str
    row: int


def answer_rows(
    job: Job,
    rows: Sequence[Row],
    places: Sequence[RowPlace],
    engine: Engine,
    tokenizer: Tokenizer,
    on_step: Callable[[], None] = lambda: None,
) -> list[RowResult]:
    """The result of each of ``rows``, in order. The engine has no requests before and after.

    Raises EngineFailed.
    """
    facts = engine.facts
    answers = Answers(
        job,
        tokenizer,
        max_model_len=facts.max_model_len,
        logprobs=facts.logprobs,
        held=facts.held,
    )
    prompts = PromptBuilder(job, tokenizer).build(rows, [(p.file, p.row) for p in places])
    results: list[RowResult | None] = [None] * len(rows)
    flights: dict[int, tuple[int, Answer]] = {}  # by request

    def ask(number: int, answer: Answer, requests: Sequence[Request]) -> None:
        for request in requests:
            try:
                engine.add(request)
            except RowError as error:
                results[number] = RowResult(error=error, prompt_tokens=len(request.prompt_ids))
                return
            flights[request.id] = number, answer

    for number, prompt in enumerate(prompts):
        if isinstance(prompt, RowError):
            results[number] = RowResult(error=prompt)
            continue
        try:
            answer = answers.answer(prompt)
        except RowError as error:
            results[number] = RowResult(error=error, prompt_tokens=len(prompt.ids))
            continue
        ask(number, answer, answer.start())
    try:
        while flights:
            try:
                completions = engine.step()
            except Exception as e:
                raise as_failure(e) from e
            on_step()
            for completion in completions:
                number, answer = flights.pop(completion.request_id)
                if answer.result is None:
                    ask(number, answer, answer.receive(completion))
                results[number] = results[number] or answer.result
    finally:
        if flights:  # something went wrong: leave the engine empty for the next rows
            engine.abort(list(flights))
    return [result or RowResult() for result in results]
