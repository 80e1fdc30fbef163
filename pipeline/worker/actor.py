"""A worker as a Ray actor, and its handle in the driver."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util import list_named_actors

from pipeline.cluster.engine_groups import is_processor, keys_in
from pipeline.cluster.placement import Placement
from pipeline.driver.coordinator.actor import CoordinatorHandle
from pipeline.driver.provenance import computed
from pipeline.engine.child_guard import guard_children
from pipeline.engine.kept import EngineSetup
from pipeline.engine.load import load_engine
from pipeline.engine.machine.card_notes import lost_in_words
from pipeline.engine.machine.facts import own_facts
from pipeline.engine.machine.vitals import VitalSigns, worker_cards
from pipeline.engine.protocol import Engine
from pipeline.engine.yielding import compute_in_this_thread
from pipeline.errors import CardLost, EngineFailed, RackmillError
from pipeline.worker.localize_spec import at_home
from pipeline.worker.messages import Progress, WorkerSpec
from pipeline.worker.meter import Meter
from pipeline.worker.metrics import labels
from pipeline.worker.own_slot import own_card, take_cards
from pipeline.worker.remote import RemoteCoordination
from pipeline.worker.worker import work

_WAKE_SECONDS = 0.5
_ANSWER_SECONDS = 1.0  # who does not answer within it is at work
_BETWEEN_JOBS_SECONDS = 600.0
_NO_ENGINE_SECONDS = 10.0  # for the driver to hear why, or to come with a job


@dataclass(frozen=True)
class Keeping:
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
        placement: Placement,
        keeping: Keeping | None = None,
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
            self._actor = _WorkerActor.options(  # type: ignore[attr-defined]
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


def _end_at_once() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@ray.remote(max_restarts=0)
class _WorkerActor:
    """Works for one job; or, where engines are kept, for one after the other, as long as none
    fails. Then it belongs to no driver: without a job it ends by itself after a while."""

    def __init__(self, keeps: bool, cards: tuple[int, ...]) -> None:
        guard_children()
        self._keeps = keeps
        self._cards, self._taken = cards, False
        self._engine: Engine | None = None
        self._setup: EngineSetup | None = None
        self._idle_since: float | None = time.monotonic()
        if keeps:
            threading.Thread(target=self._end_when_idle, daemon=True).start()

    def is_here(self) -> None:
        """Answers when it is."""

    def kept(self) -> EngineSetup | None:
        """What the engine was loaded with that waits for a job."""
        return self._setup if self._engine is not None else None

    def work(
        self, name: str, card: str, spec: WorkerSpec, coordinator: Any, setup: EngineSetup | None
    ) -> Progress:
        self._idle_since = None
        engine, self._engine = self._engine, None
        try:
            compute_in_this_thread()
            if self._cards and not self._taken:
                take_cards(self._cards)
                self._taken = True
            card = own_card(spec.engine_arguments, card)
            arguments = spec.engine_arguments[card]
            if engine is None and setup is not None:
                self._setup = replace(setup, arguments=arguments)
            host = own_facts().host
            meter = Meter(labels(spec.job.name, name, card, host))
            guessed = spec.job.engine.kind == "simulated" and not self._taken
            indices = worker_cards(simulated=guessed, on_processor=is_processor(card))
            signs = VitalSigns(indices)
            # without its driver it is of no use, whatever its engine is at
            orphaned = _end_at_once if self._keeps else None
            remote = RemoteCoordination(name, coordinator, card, meter, signs.look, orphaned)
            try:
                spec = at_home(spec, remote.note)
                spec = replace(spec, provenance=computed(spec.provenance, arguments))
                return work(
                    spec,
                    remote,
                    lambda: engine or load_engine(spec.job, arguments, spec.model, remote.note),
                    remote.engine_ready,
                    remote.hang,
                    self._keep if self._keeps else None,
                )
            except EngineFailed as e:
                lost = signs.look().lost
                if lost is not None:
                    raise CardLost(lost_in_words(lost, host)) from e
                raise
            finally:
                remote.close()
        finally:
            self._idle_since = time.monotonic()

    def _keep(self, engine: Engine) -> None:
        try:
            engine.reset()
        except EngineFailed:
            engine.close()
        else:
            self._engine = engine

    def _end_when_idle(self) -> None:
        while True:
            time.sleep(_WAKE_SECONDS)
            since = self._idle_since
            if since is None:
                continue
            kept = self._engine is not None
            if time.monotonic() - since > (_BETWEEN_JOBS_SECONDS if kept else _NO_ENGINE_SECONDS):
                os._exit(0)
