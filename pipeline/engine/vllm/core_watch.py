"""vLLM's core where it is a separate process: notice that it has died, and read its last messages.

vLLM 0.32 notices it too (``MPClientEngineMonitor``), but a caller that waits for the next step
would wait for ever: only the next request would be refused.
"""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from typing import Any

_LOOK_SECONDS = 0.5


def watch_core(client: Any, closed: threading.Event) -> None:
    """Make ``client.get_output`` raise EngineDeadError when the core of a
    ``vllm.v1.engine.core_client.SyncMPClient`` died, until ``closed``."""
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
