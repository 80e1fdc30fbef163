"""Workers as the driver sees them: those it starts, and those of earlier jobs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util import list_named_actors

from pipeline.cluster.actor_options import ActorOptions
from pipeline.cluster.engine_groups import keys_in
from pipeline.cluster.remote_actor import RemoteActor, start_actor, wait_for_one
from pipeline.driver.coordinator.actor import CoordinatorHandle
from pipeline.engine.reuse import EngineSetup
from pipeline.errors import RackmillError
from pipeline.logs import about
from pipeline.printable import first_line
from pipeline.worker.actor import WorkerActor
from pipeline.worker.coordination.messages import WorkerSpec

_log = logging.getLogger(__name__)
_WAKE_SECONDS = 0.5
_ANSWER_SECONDS = 1.0  # a worker that does not answer in time is busy


class EarlierWorker:
    """A worker of an earlier job, in ``slot``, with the engine that it has kept."""

    def __init__(self, slot: str, actor: RemoteActor[WorkerActor]) -> None:
        self.slot, self.actor = slot, actor
        kept = actor.call(WorkerActor.kept)
        try:
            ready = kept.ready(_ANSWER_SECONDS)
            self._setup = kept.get() if ready else None
            self.busy = not ready
        except RayError:
            self._setup, self.busy = None, True  # it ends just now

    def serves(self, setup: EngineSetup) -> bool:
        """Whether a job that needs ``setup`` can go on with its engine."""
        return self._setup is not None and self._setup.serves(setup)

    def kill(self) -> None:
        self.actor.kill()


def find_workers(slot: str | None) -> list[EarlierWorker]:
    """Workers that keep an engine and have cards of the slot of a rack: all or some of them, with
    or without others."""
    if slot is None:
        return []
    cards, found = keys_in(slot), []
    for name in list_named_actors():
        if keys_in(name) & cards:
            with suppress(ValueError):  # it has just ended
                found.append(EarlierWorker(name, RemoteActor(ray.get_actor(name))))
    return found


class WorkerHandle:
    """An active worker actor, from the driver."""

    def __init__(
        self,
        name: str,
        card: str,
        spec: WorkerSpec,
        coordinator: CoordinatorHandle,
        placement: ActorOptions,
        setup: EngineSetup,
        *,
        kept_as: str | None,
        earlier: EarlierWorker | None,
        cards: tuple[int, ...],
    ) -> None:
        """``card``: the kind that it is to get; ``cards``: which cards of its machine (none: those
        that Ray gives it). ``setup``: what its engine is loaded with; ``kept_as``: the name of the
        slot where the next job finds the engine, if it stays loaded; ``earlier``: the worker to
        use, with the engine that it has kept."""
        self.name = name
        if earlier is not None:
            self._actor = earlier.actor
        else:
            kept = {} if kept_as is None else {"name": kept_as, "lifetime": "detached"}
            environment = {"runtime_env": {"env_vars": dict(placement.environment)}}
            options = placement.options | kept | environment
            self._actor = start_actor(WorkerActor, options, kept_as is not None, cards)
        with about(worker=name):
            where = placement.node or "this machine"
            _log.info("its process is asked for on %s, cards %s", where, cards or "as Ray gives")
        self._here = self._actor.call(WorkerActor.is_here)
        self.work = self._actor.call(WorkerActor.work, name, card, spec, coordinator.actor, setup)

    @property
    def began(self) -> bool:
        """Whether Ray had room for it: its process is or was there."""
        return self._here.ready()

    def ended(self, timeout_seconds: float = 0.0) -> bool:
        """Whether the worker has stopped, finished or not."""
        return self.work.ready(timeout_seconds)

    def failure(self) -> RackmillError | str | None:
        """Why an ended worker stopped; None if it simply was done."""
        try:
            self.work.get(1)
        except RayTaskError as e:
            cause = e.cause
            known = isinstance(cause, RackmillError)
            return cause if known else f"{type(cause).__name__}: {cause}"
        except RayError as e:
            return f"its process died ({first_line(e)})"
        return None

    def kill(self) -> None:
        self._actor.kill()


def wait_for_any(
    workers: Sequence[WorkerHandle],
    timeout_seconds: float,
    woken: Callable[[], bool] = lambda: False,
) -> None:
    """Return when a worker has stopped, when the time is over, or soon after ``woken``."""
    deadline = time.monotonic() + timeout_seconds
    work = [worker.work for worker in workers]
    while not woken() and (left := deadline - time.monotonic()) > 0:
        seconds = min(left, _WAKE_SECONDS)
        if not work:
            time.sleep(seconds)
        elif wait_for_one(work, seconds):
            return
