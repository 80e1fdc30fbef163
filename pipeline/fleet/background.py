"""Ray, started while the driver still plans."""

from __future__ import annotations

import threading
from typing import Any


class ClusterInBackground:
    """Ray, started while the driver still plans.

    The thread that starts it lives as long as Ray does: Ray's processes ask the kernel to be
    killed when their parent ends, and to Linux that is the thread that started them.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._cluster: Any = None
        self._trouble: BaseException | None = None
        self._up = threading.Event()
        self._close = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> ClusterInBackground:
        self._thread.start()
        return self

    def _live(self) -> None:
        try:
            from pipeline.fleet.cluster import Cluster

            self._cluster = Cluster(self._address)
        except BaseException as e:
            self._trouble = e
            return
        finally:
            self._up.set()
        self._close.wait()
        self._cluster.close()

    def ready(self) -> Any:
        """The cluster, once it is there. Raises JobFailed."""
        self._up.wait()
        if self._trouble is not None:
            raise self._trouble
        return self._cluster

    def __exit__(self, *exception: object) -> None:
        self._close.set()
        self._thread.join()
