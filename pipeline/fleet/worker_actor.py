"""A worker as a Ray actor, and its handle in the driver."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from pipeline.engine.facts import own_facts
from pipeline.engine.guard import guard_children
from pipeline.engine.load import load_engine
from pipeline.engine.yielding import compute_in_this_thread
from pipeline.errors import RackmillError
from pipeline.fleet.at_home import at_home
from pipeline.fleet.coordinator_actor import CoordinatorHandle
from pipeline.fleet.crew import own_card
from pipeline.fleet.meter import Meter
from pipeline.fleet.metrics import labels
from pipeline.fleet.placement import Placement
from pipeline.fleet.remote import RemoteCoordination
from pipeline.fleet.work import Progress, WorkerSpec
from pipeline.fleet.worker import work

_WAKE_SECONDS = 0.2


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


@ray.remote(max_restarts=0)
class _WorkerActor:
    def is_here(self) -> None:
        """Answers when it is."""

    def work(self, name: str, card: str, spec: WorkerSpec, coordinator: Any) -> Progress:
        compute_in_this_thread()
        guard_children()
        card = own_card(spec.engine_arguments, card)
        meter = Meter(labels(spec.job.name, name, card, own_facts().host))
        remote = RemoteCoordination(name, coordinator, card, meter)
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
