"""The interface of every way to get a row's answer."""

from __future__ import annotations

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
