"""Ray: starting it, joining it, and the actors on it. Nothing else in rackmill imports Ray."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from pipeline.data.dataset import CommitRecord
from pipeline.data.units import Unit
from pipeline.engine.load import load_engine
from pipeline.engine.protocol import EngineFacts
from pipeline.errors import JobFailed, RackmillError
from pipeline.fleet.coordinator import Coordinator, Snapshot
from pipeline.fleet.crew import own_card
from pipeline.fleet.work import GiveUpRows, Progress, RowSource, Stage, WorkerSpec
from pipeline.fleet.worker import work
from pipeline.schedule.leases import Word

_CONNECT_SECONDS = 5.0
_PULSE_SECONDS = 1.0


@dataclass(frozen=True)
class Placement:
    """What one worker asks of Ray, and the environment its process starts with."""

    gpus: int
    environment: Mapping[str, str]


class Cluster:
    """A connection to Ray: one started here and stopped with us, or one that was there."""

    def __init__(self, address: str | None) -> None:
        """Raises JobFailed when Ray cannot be started or does not answer."""
        if address and not _answers(address):
            raise JobFailed(
                f"no Ray answers at {address}",
                "start one there (ray start --head), or leave out --address",
            )
        # Ray starts workers with a niceness of 15: whatever else runs would slow the engines down
        os.environ.setdefault("RAY_worker_niceness", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(
                address=address or "local",
                namespace="rackmill",
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
            )
        except (ConnectionError, RuntimeError, ValueError, RayError) as e:
            where = f"Ray at {address} does not answer" if address else "Ray could not be started"
            raise JobFailed(f"{where}: {e}") from e

    @property
    def gpus(self) -> int:
        """GPUs that Ray knows of."""
        return int(ray.cluster_resources().get("GPU", 0))

    @property
    def log_folder(self) -> Path:
        """Where Ray keeps the output of workers."""
        return Path(ray._private.worker._global_node.get_logs_dir_path())

    def close(self) -> None:
        ray.shutdown()


def _answers(address: str) -> bool:
    """Whether anything listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return True  # "auto" and the like: Ray knows what is meant
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


class CoordinatorHandle:
    """The coordinator actor, from the driver."""

    def __init__(
        self,
        units: Sequence[Unit],
        done: Sequence[tuple[int, int, int]],
        rates: Mapping[str, float],
        costs: Sequence[float] | None,
    ) -> None:
        """As ``Coordinator``."""
        self._actor = _CoordinatorActor.remote(  # type: ignore[attr-defined]
            list(units), list(done), dict(rates), costs
        )

    @property
    def actor(self) -> Any:
        return self._actor

    def join(self, worker: str, card: str) -> None:
        """``worker`` is about to be hired."""
        ray.get(self._actor.join.remote(worker, card))

    def snapshot(self) -> Snapshot:
        snapshot: Snapshot = ray.get(self._actor.snapshot.remote())
        return snapshot

    def worker_lost(self, worker: str) -> list[str]:
        hopeless: list[str] = ray.get(self._actor.worker_lost.remote(worker))
        return hopeless


class WorkerHandle:
    """A worker actor at work, from the driver."""

    def __init__(
        self, name: str, spec: WorkerSpec, coordinator: CoordinatorHandle, placement: Placement
    ) -> None:
        self.name = name
        actor = _WorkerActor.options(  # type: ignore[attr-defined]
            num_cpus=0,
            num_gpus=placement.gpus,
            runtime_env={"env_vars": dict(placement.environment)},
        )
        self._actor = actor.remote()
        self._work = self._actor.work.remote(name, spec, coordinator.actor)

    def ended(self, timeout_seconds: float = 0.0) -> bool:
        """Whether the worker has stopped, finished or not."""
        ready, _ = ray.wait([self._work], timeout=timeout_seconds)
        return bool(ready)

    def failure(self) -> RackmillError | str | None:
        """Why an ended worker stopped; None if it simply was done."""
        try:
            ray.get(self._work, timeout=1)
        except RayTaskError as e:
            cause = e.cause
            return cause if isinstance(cause, RackmillError) else str(e).strip()
        except (RayActorError, GetTimeoutError) as e:
            return f"its process died ({str(e).splitlines()[0]})"
        return None

    def kill(self) -> None:
        ray.kill(self._actor)


def wait_for_any(workers: Sequence[WorkerHandle], timeout_seconds: float) -> None:
    """Return when a worker has stopped, or when the time is over."""
    ray.wait([w._work for w in workers], timeout=timeout_seconds)


@ray.remote(num_cpus=0, max_concurrency=1)
class _CoordinatorActor(Coordinator):
    """The coordinator in a process of its own: workers reach it whatever the driver does."""


@ray.remote(max_restarts=0)
class _WorkerActor:
    def work(self, name: str, spec: WorkerSpec, coordinator: Any) -> Progress:
        card = own_card(spec.engine_arguments)
        remote = _RemoteCoordination(name, coordinator, card)
        try:
            return work(
                spec,
                remote,
                lambda: load_engine(spec.job, spec.engine_arguments[card], spec.model),
                remote.engine_ready,
            )
        finally:
            remote.close()


class _RemoteCoordination:
    """The coordinator actor, from a worker. A thread of its own says every second that the worker
    lives, while the engine loads and whatever it does, and passes on what comes back."""

    def __init__(self, worker: str, actor: Any, card: str) -> None:
        self._worker = worker
        self._actor = actor
        self._progress = Progress()
        self._source: RowSource | None = None
        self._closed = threading.Event()
        self._pulse = Stage("pulse", self._beat)
        ray.get(actor.join.remote(worker, card))
        self._pulse.start()

    def close(self) -> None:
        """Say the last totals, and no more."""
        self._closed.set()
        self._pulse.join(_PULSE_SECONDS)
        ray.get(self._actor.heartbeat.remote(self._worker, self._progress))

    def acquire(self) -> tuple[Unit, ...] | Word:
        answer: tuple[Unit, ...] | Word = ray.get(self._actor.acquire.remote(self._worker))
        return answer

    def committed(self, records: Sequence[CommitRecord]) -> None:
        ray.get(self._actor.commit.remote(records))

    def listen(self, source: RowSource) -> None:
        self._source = source

    def heartbeat(self, progress: Progress) -> None:
        self._progress = progress  # what comes next goes along with the next pulse
        self._pulse.check()

    def engine_ready(self, facts: EngineFacts) -> None:
        ray.get(self._actor.engine_ready.remote(self._worker, facts))

    def _beat(self) -> None:
        while not self._closed.wait(_PULSE_SECONDS):
            progress = self._progress
            active = max(0, self._source.taken - progress.rows) if self._source else 0
            requests: list[GiveUpRows] = ray.get(
                self._actor.heartbeat.remote(self._worker, progress, active)
            )
            for request in requests:
                assert self._source is not None  # who holds rows has asked for them
                stop = self._source.give_up(request)
                ray.get(self._actor.gave_up.remote(self._worker, request.unit, stop))
