"""Whose time is up, among many who were given the same."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Timeouts(Generic[K]):
    """All have the same ``seconds`` (None: no limit), so who began first is over first."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._began: dict[K, float] = {}  # in that order

    def begin(self, key: K, now: float) -> None:
        """The time of ``key`` begins, unless it has begun."""
        if self._seconds is not None:
            self._began.setdefault(key, now)

    def end(self, key: K) -> None:
        """It is done, begun or not."""
        self._began.pop(key, None)

    def over(self, now: float) -> list[K]:
        """Those whose time is up; they are ended thereby."""
        if self._seconds is None:
            return []
        late: list[K] = []
        for key, began in self._began.items():
            if now - began < self._seconds:
                break
            late.append(key)
        for key in late:
            del self._began[key]
        return late
