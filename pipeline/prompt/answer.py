"""What every way to a row's answer offers."""

from __future__ import annotations

from typing import Protocol

from pipeline.output.columns.results import RowResult
from pipeline.rows.request import Completion, Request


class Answer(Protocol):
    """One row's way to its result: requests go out, completions come in."""

    def start(self) -> list[Request]:
        """The first requests."""

    def receive(self, completion: Completion) -> list[Request]:
        """Take in one; the requests it leads to."""

    @property
    def result(self) -> RowResult | None:
        """The row's result, once there is nothing left to ask."""
