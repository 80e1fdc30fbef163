"""The queue beside the Ray of a rack's head."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pipeline.engine.facts import own_versions
from pipeline.errors import RackmillError
from pipeline.queue.drivers import Drivers
from pipeline.queue.ledger import QueueLedger
from pipeline.queue.service import Queue
from pipeline.queue.standing import Standings
from pipeline.rack.ray_node import RayNode
from pipeline.state import state_folder

_FILE = "queue.db"


def keep_queue(
    node: RayNode, turn_seconds: float, say: Callable[[str], None], stop: threading.Event
) -> None:
    """Until ``stop``. ``node``: of the head, whose machine this is."""
    try:
        ledger = QueueLedger(state_folder() / _FILE)
    except RackmillError as e:
        say(f"no queue: {e.message} {' '.join(e.hints)}")
        return
    drivers = Drivers(node.address, node.dashboard)
    Queue(ledger, drivers, Standings(turn_seconds, own_versions()), node.address, say).keep(stop)
