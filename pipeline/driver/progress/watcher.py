"""What a run tells whoever watches it."""

from __future__ import annotations

from pipeline.driver.coordinator.coordinator import Snapshot
from pipeline.driver.forecast.types import Forecast
from pipeline.driver.plan.plan import Plan


class Watcher:
    """What a run tells whoever watches; every method may be left as it is."""

    def note(self, line: str) -> None:
        """A step that takes a while begins."""

    def doubt(self, line: str) -> None:
        """Something is allowed and hardly meant. May quote values of rows: it goes to no log."""
        self.note(line)

    def planned(self, plan: Plan, forecast: Forecast) -> None:
        """The plan stands; engines are about to be loaded."""

    def progress(self, snapshot: Snapshot, plan: Plan) -> None:
        """Called a few times a second while workers work."""

    def waiting(self, why: str) -> None:
        """No engine is at work, and none loads, for ``why``; empty: that is not so (any more)."""

    def worker_lost(self, worker: str, why: str) -> None:
        """A worker stopped before its time and is replaced."""

    def stopping(self, requests: int | None, grace_seconds: float, by: str) -> None:
        """The run was asked to stop, by Ctrl-C or as ``by`` says: the so many requests that the
        engines are at (None: nobody knows how many) are finished within the time, if possible."""


class Watchers(Watcher):
    """Several that watch the same run."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def note(self, line: str) -> None:
        for one in self._watchers:
            one.note(line)

    def doubt(self, line: str) -> None:
        for one in self._watchers:
            one.doubt(line)

    def planned(self, plan: Plan, forecast: Forecast) -> None:
        for one in self._watchers:
            one.planned(plan, forecast)

    def progress(self, snapshot: Snapshot, plan: Plan) -> None:
        for one in self._watchers:
            one.progress(snapshot, plan)

    def waiting(self, why: str) -> None:
        for one in self._watchers:
            one.waiting(why)

    def worker_lost(self, worker: str, why: str) -> None:
        for one in self._watchers:
            one.worker_lost(worker, why)

    def stopping(self, requests: int | None, grace_seconds: float, by: str) -> None:
        for one in self._watchers:
            one.stopping(requests, grace_seconds, by)
