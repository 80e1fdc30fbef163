"""Starts the queue beside the Ray of a rack's head."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable

from pipeline.engine.machine.facts import own_versions
from pipeline.errors import RackmillError
from pipeline.service.queue.allocator import Allocator
from pipeline.service.queue.drivers import Drivers
from pipeline.service.queue.job_db import JobDb
from pipeline.service.queue.service import Queue
from pipeline.service.rack.ray_node import RayNode
from pipeline.user_folder import state_folder

_FILE = "queue.db"


def keep_queue(
    node: RayNode, turn_seconds: float, say: Callable[[str], None], stop: threading.Event
) -> None:
    """Keep the queue until ``stop``. ``node``: this machine, which is the head."""
    try:
        db = JobDb(state_folder() / _FILE)
    except RackmillError as e:
        say(f"no queue: {e.message} {' '.join(e.hints)}")
        return
    drivers = Drivers(node.address, node.dashboard)
    Queue(db, drivers, Allocator(turn_seconds, own_versions()), node.address, say).keep(stop)


def jobs_left() -> int:
    """How many submitted jobs of this machine's queue have not ended: they go on when the rack is
    started again. 0 if there is no queue, or it cannot be read."""
    path = state_folder() / _FILE
    if not path.exists():
        return 0
    try:
        return sum(not job.guest for job in JobDb(path).open_jobs())
    except (RackmillError, sqlite3.Error):
        return 0
