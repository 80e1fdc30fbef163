"""Ray: starting it, joining it, and the actors on it. Nothing else in rackmill imports Ray."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import (
    AuthenticationError,
    GetTimeoutError,
    RayActorError,
    RayError,
    RayTaskError,
)

from pipeline.data.dataset import CommitRecord, Dataset
from pipeline.data.redo import Redone
from pipeline.data.storage import open_storage
from pipeline.data.units import Unit
from pipeline.engine.load import load_engine
from pipeline.engine.protocol import EngineFacts
from pipeline.engine.yielding import compute_in_this_thread, yield_children
from pipeline.errors import JobFailed, RackmillError
from pipeline.fleet.coordinator import Coordinator, Loss, Snapshot
from pipeline.fleet.crew import own_card
from pipeline.fleet.guard import guard_children
from pipeline.fleet.ray_access import TOKEN_MEND, prepare_access
from pipeline.fleet.work import Lease, Orders, Progress, RowSource, Stage, WorkerSpec
from pipeline.fleet.worker import work
from pipeline.schedule.dispatcher import Sizing
from pipeline.schedule.leases import Word

_CONNECT_SECONDS = 5.0
_PULSE_SECONDS = 1.0
_WAKE_SECONDS = 0.2
_LAST_WORDS_SECONDS = 10.0


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
        # what Ray thinks of workers that end is said in the run's own words
        ray._private.worker.print_to_stdstream = lambda *_, **__: None
        prepare_access(address)
        own = {} if address else {"include_dashboard": False}
        # Ray's own switch for "no other machines": it listens on loopback then
        ray._private.ray_constants.ENABLE_RAY_CLUSTER = address is not None
        try:
            ray.init(
                address=address or "local",
                namespace="rackmill",
                **own,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
            )
        except AuthenticationError as e:
            raise JobFailed(f"Ray at {address} does not take this token", TOKEN_MEND) from e
        except (ConnectionError, RuntimeError, ValueError, RayError) as e:
            where = f"Ray at {address} does not answer" if address else "Ray could not be started"
            hints = (f"or its token is another one: {TOKEN_MEND}",) if address else ()
            raise JobFailed(f"{where}: {e}", *hints) from e
        if not address:
            yield_children()

    @property
    def gpus(self) -> int:
        """GPUs that Ray knows of."""
        return int(ray.cluster_resources().get("GPU", 0))

    @property
    def log_folder(self) -> Path:
        """Where Ray keeps the output of workers."""
        return Path(ray._private.worker._global_node.get_logs_dir_path())

    def keep_card(self, placement: Placement) -> Any:
        """Nobody shall have the card that is free now: whoever holds the answer holds the card."""
        if not placement.gpus:
            return None
        return _Nobody.options(num_gpus=placement.gpus).remote()  # type: ignore[attr-defined]

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
        *,
        output: str | None,
        silence_seconds: float,
    ) -> None:
        """As ``Coordinator``. ``output``: where its commit records are, should it be lost; None:
        they do not say what is left to do."""
        self._actor = _CoordinatorActor.remote(  # type: ignore[attr-defined]
            list(units), list(done), dict(rates), costs, output, silence_seconds
        )
        self._workers: dict[str, Progress] = {}
        self._engines: dict[str, EngineFacts] = {}

    @property
    def actor(self) -> Any:
        return self._actor

    def join(self, worker: str, card: str) -> None:
        """``worker`` is about to be hired."""
        _ask(self._actor.join.remote(worker, card))

    def snapshot(self, crew: Iterable[str] = ()) -> Snapshot:
        """As ``Coordinator.snapshot``; what a lost coordinator knew of workers is not lost."""
        snapshot: Snapshot = _ask(self._actor.snapshot.remote(tuple(crew)))
        self._workers |= snapshot.workers
        self._engines |= snapshot.engines
        return replace(snapshot, workers=dict(self._workers), engines=dict(self._engines))

    def stop(self, seconds: float) -> None:
        """Grant no more; what is in flight has so long."""
        _ask(self._actor.stop.remote(seconds))

    def worker_lost(self, worker: str, why: str, *, blameless: bool = False) -> Loss:
        """As ``Coordinator.worker_lost``."""
        loss: Loss = _ask(self._actor.worker_lost.remote(worker, why, blameless))
        return loss


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
            known = isinstance(cause, RackmillError)
            return cause if known else f"{type(cause).__name__}: {cause}"
        except (RayActorError, GetTimeoutError) as e:
            return f"its process died ({str(e).splitlines()[0]})"
        return None

    def kill(self) -> None:
        ray.kill(self._actor)


def wait_for_any(
    workers: Sequence[WorkerHandle],
    timeout_seconds: float,
    woken: Callable[[], bool] = lambda: False,
) -> None:
    """Return when a worker has stopped, when the time is over, or soon after ``woken``."""
    deadline = time.monotonic() + timeout_seconds
    work = [worker._work for worker in workers]
    while not woken() and (left := deadline - time.monotonic()) > 0:
        seconds = min(left, _WAKE_SECONDS)
        if not work:
            time.sleep(seconds)
        elif ray.wait(work, timeout=seconds)[0]:
            return


def _ask(call: Any) -> Any:
    """What the coordinator answers. A call is made again while it is restarted. Raises JobFailed
    when it cannot be."""
    try:
        return ray.get(call)
    except RayTaskError as e:
        raise e.cause if isinstance(e.cause, RackmillError) else e from None
    except RayError as e:
        why = (str(e).strip() or type(e).__name__).splitlines()[0]
        raise JobFailed(
            f"the coordinator was lost and could not be restarted: {why}",
            "what is committed stays; the same command goes on from there",
        ) from e


# whoever calls it waits for it to be back: calls may be made twice, which is harmless for each
@ray.remote(num_cpus=0, max_concurrency=1, max_restarts=-1, max_task_retries=-1)
class _CoordinatorActor(Coordinator):
    """The coordinator in a process of its own: workers reach it whatever the driver does. When
    that process is lost, another takes its place and begins with the commit records."""

    def __init__(
        self,
        units: Sequence[Unit],
        done: Sequence[tuple[int, int, int]],
        rates: Mapping[str, float],
        costs: Sequence[float] | None,
        output: str | None,
        silence_seconds: float,
    ) -> None:
        sizing = Sizing(patience_seconds=silence_seconds)
        super().__init__(units, done, rates, costs, sizing=sizing)
        if ray.get_runtime_context().was_current_actor_reconstructed:
            records = Dataset(open_storage(output)).records() if output is not None else {}
            self.restore(records.values())


@ray.remote(num_cpus=0)
class _Nobody:
    """Has a card and does nothing with it."""


@ray.remote(max_restarts=0)
class _WorkerActor:
    def work(self, name: str, spec: WorkerSpec, coordinator: Any) -> Progress:
        compute_in_this_thread()
        guard_children()
        card = own_card(spec.engine_arguments)
        remote = _RemoteCoordination(name, coordinator, card)
        try:
            return work(
                spec,
                remote,
                lambda: load_engine(spec.job, spec.engine_arguments[card], spec.model, remote.note),
                remote.engine_ready,
                remote.hang,
            )
        finally:
            remote.close()


class _RemoteCoordination:
    """The coordinator actor, from a worker. A thread of its own says every second that the worker
    lives, while the engine loads and whatever it does, and passes on what comes back."""

    def __init__(self, worker: str, actor: Any, card: str) -> None:
        self._worker = worker
        self._actor = actor
        self._card = card
        self._facts: EngineFacts | None = None
        self._progress = Progress()
        self._source: RowSource | None = None
        self._telling = threading.Lock()
        self._closed = threading.Event()
        self._pulse = Stage("pulse", self._beat)
        ray.get(actor.join.remote(worker, card))
        self._pulse.start()

    def close(self) -> None:
        """Say the last totals, and no more."""
        self._closed.set()
        self._pulse.join(_PULSE_SECONDS)
        ray.get(self._actor.heartbeat.remote(self._worker, self._progress))

    def acquire(self) -> Lease | Word:
        holding = tuple(self._source.holding) if self._source is not None else None
        answer: Lease | Word = ray.get(self._actor.acquire.remote(self._worker, holding))
        return answer

    def committed(self, records: Sequence[CommitRecord | Redone]) -> None:
        ray.get(self._actor.commit.remote(records))

    def listen(self, source: RowSource) -> None:
        self._source = source

    def heartbeat(self, progress: Progress) -> None:
        self._progress = progress  # what comes next goes along with the next pulse
        self._pulse.check()

    def announce(self) -> None:
        ray.get(self._tell())  # orders can wait for the next pulse

    def engine_failed(self, why: str, rows: Sequence[tuple[int, int, int]]) -> None:
        call = self._actor.engine_failed.remote(self._worker, why, list(rows))
        ray.get(call, timeout=_LAST_WORDS_SECONDS)

    def hang(self, why: str, rows: Sequence[tuple[int, int, int]]) -> None:
        """The engine hangs: say so, and end this process as hard as it takes. The guard ends what
        the engine started."""
        with suppress(Exception):
            self.engine_failed(why, rows)
        os.kill(os.getpid(), signal.SIGKILL)

    def _tell(self) -> Any:
        """A heartbeat, on its way."""
        source, progress = self._source, self._progress
        with self._telling:  # what is told later must not be older
            active = max(0, source.taken - progress.rows) if source else 0
            flights = source.flights if source else []
            return self._actor.heartbeat.remote(self._worker, progress, active, flights)

    def note(self, line: str) -> None:
        ray.get(self._actor.note.remote(self._worker, line))

    def engine_ready(self, facts: EngineFacts) -> None:
        self._facts = facts
        ray.get(self._actor.engine_ready.remote(self._worker, facts))

    def _introduce(self) -> None:
        holding = tuple(self._source.holding) if self._source is not None else ()
        ray.get(self._actor.introduce.remote(self._worker, self._card, self._facts, holding))

    def _beat(self) -> None:
        while not self._closed.wait(_PULSE_SECONDS):
            orders: Orders = ray.get(self._tell())
            if orders.introduce:
                self._introduce()
            if self._source is None:
                continue  # who has no rows has nothing to give up
            if orders.stop_seconds is not None:
                self._source.wind_up(orders.stop_seconds)
            for request in orders.give_up:
                stop = self._source.give_up(request)
                ray.get(self._actor.gave_up.remote(self._worker, request.unit, stop))
