"""The driver's part of a graceful stop: tells everyone, and ends those who do not end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pipeline.driver.coordinator.coordinator import Snapshot
from pipeline.driver.progress.watcher import Watcher
from pipeline.driver.stop.stop import Stop

if TYPE_CHECKING:  # they import Ray
    from pipeline.driver.coordinator.actor import CoordinatorHandle
    from pipeline.driver.workers.worker_handle import WorkerHandle

_CLOSING_SECONDS = 30.0  # after the grace: to commit what was finished


class GracefulStop:
    """Looks, at every turn of the driver's loop, whether the run is to stop."""

    def __init__(
        self, stop: Stop, grace_seconds: float, coordinator: CoordinatorHandle, watcher: Watcher
    ) -> None:
        """``grace_seconds``: for what is in flight, unless ``stop`` says otherwise."""
        self._stop = stop
        self._usual = grace_seconds
        self._coordinator = coordinator
        self._watcher = watcher
        self._since: float | None = None

    @property
    def begun(self) -> bool:
        """Whether the run is stopping: who is lost is not replaced any more."""
        return self._since is not None

    @property
    def wanted(self) -> bool:
        """Whether the run was asked to stop and does not know it yet."""
        return self._stop.asked and not self.begun

    def look(self, snapshot: Snapshot, workers: list[WorkerHandle]) -> list[WorkerHandle]:
        """Pass the wish on. Returns those of ``workers`` that were killed: they have nothing to
        finish, or had their time."""
        if not self._stop.asked:
            return []
        now = time.monotonic()
        grace = self._stop.grace(self._usual)
        if self._since is None:
            self._since = now
            loaded = [w.name for w in workers if w.name in snapshot.engines]
            told = [snapshot.workers[name].running for name in loaded if name in snapshot.workers]
            running = sum(told) or None  # an engine that has just begun has not told of it yet
            self._watcher.stopping(running if loaded else 0, grace, self._stop.by)
        left = self._since + grace - now
        self._coordinator.stop(max(0.0, left))  # again and again: it may have been restarted
        over = left < -_CLOSING_SECONDS
        ended = [w for w in workers if over or w.name not in snapshot.engines]
        for worker in ended:
            worker.kill()
        return ended
