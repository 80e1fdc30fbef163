"""The interface of every way to get a row's answer, and the simplest way: one request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from pipeline.output.columns.results import RowResult
from pipeline.rows.request import Completion, Request


class Answer(Protocol):
    """How one row gets its result: requests go out, completions come in."""

    def start(self) -> list[Request]:
        """The first requests."""

    def receive(self, completion: Completion) -> list[Request]:
        """Take in one completion; returns the requests that follow from it."""

    @property
    def result(self) -> RowResult | None:
        """The row's result; None while there is something left to ask."""


class OneRequest:
    """An answer that one completion tells. ``read``: makes the result of a completion without
    error."""

    def __init__(self, request: Request, read: Callable[[Completion], RowResult]) -> None:
        self._request, self._read = request, read
        self.result: RowResult | None = None

    def start(self) -> list[Request]:
        return [self._request]

    def receive(self, completion: Completion) -> list[Request]:
        error = completion.error
        result = RowResult(error=error) if error is not None else self._read(completion)
        self.result = replace(result, prompt_tokens=len(self._request.prompt_ids))
        return []
