"""The requests that a worker has: each waits for its turn, or is in the engine. And how long their
rows may take."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Generic, TypeVar

from pipeline.prompt.answer import Answer
from pipeline.rows.request import Request
from pipeline.worker.open_unit import ReadyRow

_log = logging.getLogger(__name__)
K = TypeVar("K", bound=Hashable)


@dataclass(slots=True, eq=False)
class RowInHand:
    """A row that is being answered, by these requests (their ids) now."""

    ready: ReadyRow
    answer: Answer
    requests: set[int] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class RequestInHand:
    """``begun``: the engine has it; otherwise it waits for admission."""

    request: Request
    row: RowInHand
    begun: bool = False


class InHand:
    """All of them, in order of arrival. The engine's thread changes it; other threads may read it
    meanwhile."""

    def __init__(self) -> None:
        self._all: dict[int, RequestInHand] = {}  # by the request's id
        self.waiting = 0  # requests

    def __len__(self) -> int:
        return len(self._all)

    @property
    def inside(self) -> int:
        """Requests that the engine has."""
        return len(self._all) - self.waiting

    def add(self, request: Request, row: RowInHand) -> None:
        """One more waits."""
        self._all[request.id] = RequestInHand(request, row)
        row.requests.add(request.id)
        self.waiting += 1

    def begin(self, request_id: int) -> RequestInHand:
        """One that waits is about to go into the engine."""
        one = self._all[request_id]
        one.begun = True
        self.waiting -= 1
        return one

    def drop(self, request_id: int) -> RequestInHand | None:
        """Remove one, wherever it was; None if it was not here."""
        one = self._all.pop(request_id, None)
        if one is not None and not one.begun:
            self.waiting -= 1
        return one

    def drop_all_of(self, row: RowInHand) -> tuple[list[int], list[int]]:
        """Remove all requests of the row. Returns the ids of those that the engine has, and of
        those that waited."""
        dropped = [one for number in sorted(row.requests) if (one := self.drop(number)) is not None]
        begun = [one.request.id for one in dropped if one.begun]
        return begun, [one.request.id for one in dropped if not one.begun]

    @property
    def begun(self) -> list[RequestInHand]:
        """Those that the engine has."""
        return [one for one in list(self._all.values()) if one.begun]

    @property
    def not_begun(self) -> list[RequestInHand]:
        """Those that wait."""
        return [one for one in list(self._all.values()) if not one.begun]

    @property
    def rows(self) -> list[RowInHand]:
        """The rows that they belong to, each once."""
        return list(dict.fromkeys(one.row for one in list(self._all.values())))

    @property
    def begun_rows(self) -> set[RowInHand]:
        """The rows with some request in the engine."""
        return {one.row for one in self.begun}


class Timeouts(Generic[K]):
    """Which of many things with the same limit of ``seconds`` (None: no limit) have run out:
    whatever began first runs out first."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._began: dict[K, float] = {}  # in that order

    def begin(self, key: K, now: float) -> None:
        """The time of ``key`` begins, unless it has begun already."""
        if self._seconds is not None:
            self._began.setdefault(key, now)

    def end(self, key: K) -> None:
        """It is done, begun or not."""
        self._began.pop(key, None)

    def over(self, now: float) -> list[K]:
        """Those whose time has run out; they are ended by this call."""
        if self._seconds is None:
            return []
        began, seconds = self._began, self._seconds
        late = list(takewhile(lambda key: now - began[key] >= seconds, began))
        for key in late:
            del self._began[key]
        if late:
            _log.warning("%d rows had the engine for more than %.0f s", len(late), self._seconds)
        return late
