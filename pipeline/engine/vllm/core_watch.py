"""vLLM's core where it is a separate process: notice that it has died, and know what of its
messages is still wanted."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

_LOOK_SECONDS = 0.5


def watch_core(client: Any, closed: threading.Event) -> None:
    """Make ``client.get_output`` raise EngineDeadError when the core of a
    ``vllm.v1.engine.core_client.SyncMPClient`` died, until ``closed``.

    vLLM 0.32 notices it too (``MPClientEngineMonitor``), but a caller that waits for the next step
    would wait for ever: only the next request would be refused.
    """
    outputs, resources = (getattr(client, name, None) for name in ("outputs_queue", "resources"))
    if outputs is None or resources is None:
        return  # the core is in this process

    def watch() -> None:
        from vllm.v1.engine.exceptions import EngineDeadError

        while not closed.wait(_LOOK_SECONDS):
            if resources.engine_dead:
                outputs.put(EngineDeadError())
                return

    threading.Thread(target=watch, name="core-watch", daemon=True).start()


def forget_outputs(client: Any) -> None:
    """Drop what the core has sent and no one has read yet; but not the message that it died."""
    outputs = getattr(client, "outputs_queue", None)
    with suppress(queue.Empty):
        while outputs is not None:
            said = outputs.get_nowait()
            if isinstance(said, Exception):
                outputs.put(said)
                return


class InFlight:
    """Requests from when they were handed over until they ended or were aborted, by the names that
    the core has for them: our number, followed by a hyphen and random characters.

    A core in a separate process steps by itself. When a stop string is found here, or a row's time
    is over, the core learns of it a step or two later. What it sends for that request until then
    must be dropped: the request has its result already. Its number alone is not enough: a kept
    engine's next job numbers its requests from 0 again.
    """

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._names)

    def began(self, request_id: int, name: str) -> None:
        """The core got ``request_id``, which it calls ``name``."""
        self._names[request_id] = name

    def ended(self, request_ids: Iterable[int]) -> None:
        """These are no longer wanted, whether they are known or not."""
        for request_id in request_ids:
            self._names.pop(request_id, None)

    def find(self, name: str) -> int | None:
        """The request of that name; None if it has ended."""
        request_id = int(name.partition("-")[0])
        return request_id if self._names.get(request_id) == name else None
