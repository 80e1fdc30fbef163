"""Ray, started while the driver is still planning."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pipeline.cluster.ray_access import import_ray
from pipeline.cluster.ray_processes import RayProcesses

if TYPE_CHECKING:
    from pipeline.cluster.ray_cluster import Cluster


class ClusterInBackground:
    """Ray, from ``start`` on, while the driver is still planning.

    The thread that starts it lives as long as Ray does: Ray's processes ask the kernel to kill them
    when their parent ends, and for Linux the parent is the thread that started them.
    """

    def __init__(
        self, address: str | None, queued: str | None = None, *, patient: bool = False
    ) -> None:
        """``queued``, ``patient``: see ``Cluster``."""
        self._address, self._queued, self._patient = address, queued, patient
        self.processes = None if address else RayProcesses()
        self.joins = address is not None  # an existing Ray, with machines of its own
        self._cluster: Future[Cluster] = Future()
        self._begun = False
        self._close = threading.Event()
        self.thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> Self:
        return self

    def start(self) -> None:
        """Begin to start or join it; a second call changes nothing."""
        if not self._begun:
            self._begun = True
            self.thread.start()

    def _live(self) -> None:
        try:
            cluster = _import_cluster()(
                self._address, self._queued, patient=self._patient, processes=self.processes
            )
        except BaseException as e:
            self._cluster.set_exception(e)
            return
        self._cluster.set_result(cluster)
        self._close.wait()
        cluster.close()

    def ready(self) -> Cluster:
        """The cluster; waits until it is ready. Raises JobFailed."""
        self.start()
        return self._cluster.result()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close.set()
        if not self._begun:
            return
        if error is not None and not self._cluster.done():
            _left.append(self)  # do not wait for it: its thread closes what comes up
        else:
            self.thread.join()


_left: list[ClusterInBackground] = []


def is_starting() -> bool:
    """Whether a Ray that is no longer needed is still starting, or closing what has come up."""
    return any(cluster.thread.is_alive() for cluster in _left)


def end_what_starts() -> None:
    """End such a Ray's processes. Most would end with this one; processes that they have just
    started would check for their parent only after ten seconds."""
    for cluster in _left:
        if cluster.processes is not None:
            cluster.processes.end(0.0)


def _import_cluster() -> type[Cluster]:
    import_ray()
    from pipeline.cluster.ray_cluster import Cluster

    return Cluster
