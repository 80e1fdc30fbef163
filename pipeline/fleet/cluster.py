"""Ray: starting it, joining it, and the actors on it. Otherwise only ``remote`` (a worker's way to
the coordinator) and ``ray_access`` import Ray."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import (
    AuthenticationError,
    RayError,
    RayTaskError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.data.dataset import Dataset
from pipeline.data.storage import open_storage
from pipeline.data.units import Unit
from pipeline.engine.facts import own_facts
from pipeline.engine.load import load_engine
from pipeline.engine.protocol import EngineFacts
from pipeline.engine.yielding import compute_in_this_thread, yield_children
from pipeline.errors import JobFailed, RackmillError
from pipeline.fleet.at_home import at_home
from pipeline.fleet.coordinator import Coordinator, Loss, Snapshot
from pipeline.fleet.crew import own_card
from pipeline.fleet.gcs import Gcs, HeadGone
from pipeline.fleet.guard import guard_children
from pipeline.fleet.machines import MACHINE, Machine, machines
from pipeline.fleet.ray_access import TOKEN_MEND, check_access, prepare_access
from pipeline.fleet.remote import RemoteCoordination
from pipeline.fleet.work import Progress, WorkerSpec
from pipeline.fleet.worker import work
from pipeline.schedule.dispatcher import Sizing
from pipeline.schedule.suspects import Memory

_WAKE_SECONDS = 0.2
_CHECK_SECONDS = 2.0
_HEAD_PATIENCE_SECONDS = 15.0
# A Ray of our own is there for its workers alone, and nobody looks at it: no spare workers (each
# looks for signals a hundred times a second), no metrics, hardly any statistics. On a CPU whoever
# wakes up holds an engine up.
_QUIET = {
    "RAY_num_workers_soft_limit": "0",
    "RAY_enable_metrics_collection": "0",
    "REPORTER_UPDATE_INTERVAL_MS": "600000",
}


@dataclass(frozen=True)
class Placement:
    """What one worker asks of Ray, and the environment its process starts with. ``cpus``: of
    Ray's; ``node``: the machine that it has to be on, if that matters."""

    gpus: int
    environment: Mapping[str, str]
    cpus: float = 0
    node: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """For Ray."""
        asked: dict[str, Any] = {"num_cpus": self.cpus, "num_gpus": self.gpus}
        if self.node is not None:
            asked["scheduling_strategy"] = NodeAffinitySchedulingStrategy(self.node, soft=False)
        return asked


class Cluster:
    """A connection to Ray: one started here and stopped with us, or one that was there."""

    def __init__(self, address: str | None) -> None:
        """Raises UsageError for an ``address`` where no Ray can be joined, JobFailed when Ray
        cannot be started."""
        check_access(address)
        if address:
            # a rack whose head is gone is told of in our own words, and in time: Ray would end
            # this process a second after the Ray on its machine
            os.environ.setdefault("RAY_raylet_death_check_interval_milliseconds", "3600000")
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        # Ray starts workers with a niceness of 15: whatever else runs would slow the engines down
        os.environ.setdefault("RAY_worker_niceness", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # what Ray thinks of workers that end is said in the run's own words
        ray._private.worker.print_to_stdstream = lambda *_, **__: None
        prepare_access(address)
        own = {} if address else _alone()
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
        except Exception as e:  # Ray raises that very class where it does not start in time
            where = f"Ray at {address} does not answer" if address else "Ray could not be started"
            hints = (f"or its token is another one: {TOKEN_MEND}",) if address else ()
            raise JobFailed(f"{where}: {e}", *hints) from e
        self._rack = Gcs(ray.get_runtime_context().gcs_address) if address else None
        self._heard = time.monotonic()  # when the head last answered
        self._lost = False
        self._looking: dict[str, Any] = {}  # tasks that look around on machines nobody described
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

    def machines(self, patience_seconds: float = 0.0) -> list[Machine]:
        """Those of the rack that is joined, with what each offers. Where a machine has not said
        that itself, a task looks for it, which may take a while: so long at most is waited for it.
        Raises HeadGone."""
        assert self._rack is not None
        found = machines(self._rack)
        unknown = [m.node for m in found if m.facts is None and m.works]
        if not unknown:
            return found
        for node in unknown:
            if node.id not in self._looking:
                task = _own_facts.options(**Placement(0, {}, node=node.id).options)
                self._looking[node.id] = task.remote()
        waiting = [self._looking[node.id] for node in unknown]
        ray.wait(waiting, num_returns=len(waiting), timeout=patience_seconds)
        for node in unknown:
            if ray.wait([self._looking[node.id]], timeout=0)[0]:
                with suppress(RayError):
                    self._rack.put(MACHINE + node.id, ray.get(self._looking[node.id]))
                del self._looking[node.id]
        return machines(self._rack)

    def check_head(self) -> None:
        """Raise JobFailed when the head of the rack has not answered for a while: Ray ends soon
        after it, and with it the process of whoever uses it."""
        if self._rack is None:
            return
        now = time.monotonic()
        try:
            self._rack.nodes()
            self._heard = now
        except HeadGone as e:
            if now - self._heard < _HEAD_PATIENCE_SECONDS:
                return
            self._lost = True
            raise JobFailed(
                e.message,
                "what is committed stays; once it is back, the same command goes on from there",
            ) from e

    def is_free(self, placement: Placement) -> bool:
        """Whether its machine has now what ``placement`` asks of it."""
        if placement.node is None:
            return True
        free = ray._private.state.available_resources_per_node().get(placement.node, {})
        return bool(free.get("GPU", 0) >= placement.gpus and free.get("CPU", 0) >= placement.cpus)

    def keep_card(self, placement: Placement) -> Any:
        """Nobody shall have the card that is free now: whoever holds the answer holds the card."""
        if not placement.gpus:
            return None
        return _Nobody.options(**placement.options).remote()  # type: ignore[attr-defined]

    def close(self) -> None:
        if self._rack is not None:
            self._rack.close()
        if not self._lost:  # else Ray would wait for the head
            ray.shutdown()


def _alone() -> dict[str, Any]:
    """Prepare for a Ray of our own; what ``ray.init`` is told of it."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    # it would look for new lines in all logs ten times a second, to send them to a driver
    ray._private.node.Node.start_log_monitor = lambda _: None
    return {"include_dashboard": False}


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
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """As ``Coordinator``. ``output``: where its commit records are, should it be lost; None:
        they do not say what is left to do. ``check``: raises, while it does not answer, if it
        never will."""
        self._check = check
        # where the driver is: without that it is of no use, and any other machine may be cut off
        here = Placement(0, {}, node=ray.get_runtime_context().get_node_id())
        self._actor = _CoordinatorActor.options(**here.options).remote(  # type: ignore[attr-defined]
            list(units), list(done), dict(rates), costs, output, silence_seconds
        )
        self._memory: Memory | None = None
        self._workers: dict[str, Progress] = {}
        self._engines: dict[str, EngineFacts] = {}

    @property
    def actor(self) -> Any:
        return self._actor

    def join(self, worker: str, card: str, rate: float) -> None:
        """``worker`` is about to be hired."""
        _ask(self._actor.join.remote(worker, card, rate), self._check)

    def snapshot(self, crew: Iterable[str] = ()) -> Snapshot:
        """As ``Coordinator.snapshot``; what a lost one knew of workers and deaths is not lost."""
        call = self._actor.snapshot.remote(tuple(crew), self._memory)
        snapshot: Snapshot = _ask(call, self._check)
        self._memory = snapshot.memory or self._memory
        self._workers |= snapshot.workers
        self._engines |= snapshot.engines
        return replace(snapshot, workers=dict(self._workers), engines=dict(self._engines))

    def stop(self, seconds: float) -> None:
        """Grant no more; what is in flight has so long."""
        _ask(self._actor.stop.remote(seconds), self._check)

    def worker_lost(self, worker: str, why: str, *, blameless: bool = False) -> Loss:
        """As ``Coordinator.worker_lost``."""
        loss: Loss = _ask(self._actor.worker_lost.remote(worker, why, blameless), self._check)
        return loss


class WorkerHandle:
    """A worker actor at work, from the driver."""

    def __init__(
        self,
        name: str,
        card: str,
        spec: WorkerSpec,
        coordinator: CoordinatorHandle,
        placement: Placement,
    ) -> None:
        """``card``: that it is to get, as far as Ray can be told."""
        self.name = name
        actor = _WorkerActor.options(  # type: ignore[attr-defined]
            **placement.options, runtime_env={"env_vars": dict(placement.environment)}
        )
        self._actor = actor.remote()
        self._here = self._actor.is_here.remote()
        self._work = self._actor.work.remote(name, card, spec, coordinator.actor)

    @property
    def began(self) -> bool:
        """Whether Ray had a place for it: its process is there, or was."""
        return bool(ray.wait([self._here], timeout=0)[0])

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
        except RayError as e:
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


def _ask(call: Any, check: Callable[[], None]) -> Any:
    """What the coordinator answers. A call is made again while it is restarted. Raises JobFailed
    when it cannot be, and what ``check`` raises."""
    try:
        while not ray.wait([call], timeout=_CHECK_SECONDS)[0]:
            check()
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


def _describe() -> bytes:
    return own_facts().encode()


_own_facts = ray.remote(num_cpus=0, max_retries=0)(_describe)


@ray.remote(num_cpus=0)
class _Nobody:
    """Has a card and does nothing with it."""


@ray.remote(max_restarts=0)
class _WorkerActor:
    def is_here(self) -> None:
        """Answers when it is."""

    def work(self, name: str, card: str, spec: WorkerSpec, coordinator: Any) -> Progress:
        compute_in_this_thread()
        guard_children()
        card = own_card(spec.engine_arguments, card)
        remote = RemoteCoordination(name, coordinator, card)
        try:
            spec = at_home(spec, remote.note)
            return work(
                spec,
                remote,
                lambda: load_engine(spec.job, spec.engine_arguments[card], spec.model, remote.note),
                remote.engine_ready,
                remote.hang,
            )
        finally:
            remote.close()
