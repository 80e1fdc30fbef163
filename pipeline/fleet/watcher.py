"""What a run tells whoever watches it."""

from __future__ import annotations

from pipeline.data.plan import Plan
from pipeline.fleet.coordinator import Snapshot
from pipeline.fleet.forecast import Forecast


class Watcher:
    """What a run tells whoever watches; every method may be left as it is."""

    def note(self, line: str) -> None:
        """A step that takes a while begins."""

    def planned(self, plan: Plan, forecast: Forecast) -> None:
        """The plan stands; engines are about to be loaded."""

    def progress(self, snapshot: Snapshot, plan: Plan) -> None:
        """Called a few times a second while workers work."""

    def worker_lost(self, worker: str, why: str) -> None:
        """A worker stopped before its time and is replaced."""
