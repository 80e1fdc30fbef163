"""What the driver's loop and its supervisor use: Ray, the coordinator, workers.

Each as a protocol, so that tests can pass something that starts no process.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline.cluster.actor_options import ActorOptions
from pipeline.driver.coordinator.coordinator import Snapshot
from pipeline.driver.workers.death import DeathOutcome, Sighting
from pipeline.errors import RackmillError

if TYPE_CHECKING:  # otherwise the command would wait for Ray to be imported
    from pipeline.cluster.remote_actor import RemoteActor, RemoteFuture
    from pipeline.worker.coordination.remote import CoordinatorCalls


class RunCluster(Protocol):
    """The Ray that a run is on; ``cluster.ray_cluster.Cluster`` says what each does."""

    @property
    def keeps_engines(self) -> bool: ...

    @property
    def chooses_cards(self) -> bool: ...

    @property
    def log_folder(self) -> Path: ...

    def is_free(self, placement: ActorOptions) -> bool: ...

    def keep_card(self, placement: ActorOptions) -> object: ...

    def check_head(self) -> None: ...


class RunCoordinator(Protocol):
    """It grants leases; ``driver.coordinator.actor.CoordinatorHandle`` says what each method
    does."""

    @property
    def actor(self) -> RemoteActor[CoordinatorCalls]: ...

    def join(self, worker: str, card: str, rate: float) -> None: ...

    def snapshot(self, expected: Iterable[str] = ()) -> Snapshot: ...

    def stop(self, seconds: float) -> None: ...

    def retire(self, worker: str, seconds: float) -> None: ...

    def worker_lost(self, worker: str, seen: Sighting) -> DeathOutcome: ...


class RunWorker(Protocol):
    """An active worker; ``driver.workers.worker_handle.WorkerHandle`` says what each method
    does."""

    @property
    def name(self) -> str: ...

    @property
    def work(self) -> RemoteFuture[object]: ...

    @property
    def began(self) -> bool: ...

    def ended(self) -> bool: ...

    def failure(self) -> RackmillError | str | None: ...

    def kill(self) -> None: ...
