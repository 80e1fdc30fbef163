"""Workers as the driver has them: those it starts, and those of earlier jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util import list_named_actors

from pipeline.cluster.actor_options import ActorOptions
from pipeline.cluster.engine_groups import keys_in
from pipeline.driver.coordinator.actor import CoordinatorHandle
from pipeline.engine.reuse import EngineSetup
from pipeline.errors import RackmillError
from pipeline.worker.actor import WorkerActor
from pipeline.worker.messages import WorkerSpec

_WAKE_SECONDS = 0.5
_ANSWER_SECONDS = 1.0  # who does not answer within it is at work


@dataclass(frozen=True)
class KeptEngine:
    """Where an engine stays loaded after the job: the next one finds it by ``slot``, and what it
    was loaded with by ``setup``."""

    slot: str
    setup: EngineSetup


class EarlierWorker:
    """A worker of an earlier job, in ``slot``, with the engine that it has kept."""

    def __init__(self, slot: str, actor: Any) -> None:
        self.slot, self.actor = slot, actor
        kept = actor.kept.remote()
        try:
            ready = ray.wait([kept], timeout=_ANSWER_SECONDS)[0]
            self._setup: EngineSetup | None = ray.get(kept) if ready else None
            self.busy = not ready
        except RayError:
            self._setup, self.busy = None, True  # it ends just now

    def serves(self, setup: EngineSetup) -> bool:
        """Whether its engine is one with which a job that needs ``setup`` could go on."""
        return self._setup is not None and self._setup.serves(setup)

    def kill(self) -> None:
        ray.kill(self.actor)


def find_workers(slot: str | None) -> list[EarlierWorker]:
    """Who would keep an engine and has cards of the slot of a rack, all of them or some, alone or
    with others."""
    if slot is None:
        return []
    cards, found = keys_in(slot), []
    for name in list_named_actors():
        if keys_in(name) & cards:
            with suppress(ValueError):  # it has just ended
                found.append(EarlierWorker(name, ray.get_actor(name)))
    return found


class WorkerHandle:
    """A worker actor at work, from the driver."""

    def __init__(
        self,
        name: str,
        card: str,
        spec: WorkerSpec,
        coordinator: CoordinatorHandle,
        placement: ActorOptions,
        keeping: KeptEngine | None = None,
        earlier: EarlierWorker | None = None,
        cards: tuple[int, ...] = (),
    ) -> None:
        """``card``: the kind that it is to get; ``cards``: which ones of its machine (none: those
        that Ray gives it). ``keeping``: its engine stays loaded after the job; ``earlier``: who is
        to do the work, with an engine that was kept."""
        self.name = name
        if earlier is not None:
            self._actor = earlier.actor
        else:
            kept = {} if keeping is None else {"name": keeping.slot, "lifetime": "detached"}
            self._actor = WorkerActor.options(  # type: ignore[attr-defined]
                **placement.options,
                **kept,
                runtime_env={"env_vars": dict(placement.environment)},
            ).remote(keeping is not None, cards)
        setup = None if keeping is None else keeping.setup
        self._here = self._actor.is_here.remote()
        self._work = self._actor.work.remote(name, card, spec, coordinator.actor, setup)

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
