"""A worker as a Ray actor."""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import replace

import ray

from pipeline.cluster.engine_groups import is_processor
from pipeline.cluster.remote_actor import RemoteActor
from pipeline.engine.failure.child_guard import guard_children
from pipeline.engine.load import load_engine
from pipeline.engine.machine.card_notes import lost_in_words
from pipeline.engine.machine.facts import own_facts
from pipeline.engine.machine.vitals import VitalSigns, worker_cards
from pipeline.engine.protocol import Engine
from pipeline.engine.reuse import EngineSetup
from pipeline.engine.vllm.cpu_compute import with_compute
from pipeline.errors import CardLost, EngineFailed
from pipeline.output.runs.run_log import RunLog
from pipeline.worker.coordination.messages import LastWords, Progress, WorkerSpec
from pipeline.worker.coordination.remote import CoordinatorCalls, RemoteCoordination
from pipeline.worker.localize_spec import localize_spec
from pipeline.worker.metrics.meter import Meter
from pipeline.worker.metrics.metrics import labels
from pipeline.worker.own_slot import own_card, take_cards
from pipeline.worker.worker import work

_log = logging.getLogger(__name__)
_LOG_BYTES = 2 << 20  # there may be a thousand workers
_LAST_LINES_SECONDS = 2.0
_WAKE_SECONDS = 0.5
_BETWEEN_JOBS_SECONDS = 600.0
_NO_ENGINE_SECONDS = 10.0  # time for the driver to ask why, or to bring a job


@ray.remote(max_restarts=0)
class WorkerActor:
    """Works for one job; or, where engines are kept, for one job after the other, as long as none
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
        """What the engine that waits for a job was loaded with."""
        return self._setup if self._engine is not None else None

    def work(
        self,
        name: str,
        card: str,
        spec: WorkerSpec,
        coordinator: RemoteActor[CoordinatorCalls],
        setup: EngineSetup,
    ) -> Progress:
        self._idle_since = None
        engine, self._engine = self._engine, None
        log = RunLog(spec.log.run if spec.log is not None else "", name, most_bytes=_LOG_BYTES)
        log.__enter__()
        try:
            if self._cards and not self._taken:
                take_cards(self._cards)
                self._taken = True
            card = own_card(spec.engine_arguments, card)
            arguments = spec.engine_arguments[card]
            if engine is None:
                self._setup = replace(setup, arguments=arguments)
            host = own_facts().host
            _log.info("at work for %s on %s of %s", spec.job.name, card, host)
            meter = Meter(labels(spec.job.name, name, card, host))
            guessed = not spec.job.engine.computes and not self._taken
            indices = worker_cards(simulated=guessed, on_processor=is_processor(card))
            signs = VitalSigns(indices)
            remote = RemoteCoordination(name, coordinator, card, meter, signs.look, self._keeps)

            def hang(words: LastWords) -> None:
                log.finish(_LAST_LINES_SECONDS)
                remote.hang(words)

            try:
                spec = localize_spec(spec, remote.note)
                if spec.log is not None:  # otherwise we might make its folder on no mount
                    log.open_at(spec.log.output)
                spec = replace(spec, provenance=with_compute(spec.provenance, arguments))
                return work(
                    spec,
                    remote,
                    lambda: engine or load_engine(spec.job, arguments, spec.model, remote.note),
                    remote.engine_ready,
                    hang,
                    self._keep if self._keeps else None,
                )
            except EngineFailed as e:
                _log.error("its engine failed: %s", e.message)
                lost = signs.look().lost
                if lost is not None:
                    raise CardLost(lost_in_words(lost, host)) from e
                raise
            finally:
                log.finish()  # while the worker still sends heartbeats: storage may be slow
                remote.close()
        finally:
            log.__exit__(None, None, None)
            self._idle_since = time.monotonic()

    def _keep(self, engine: Engine) -> None:
        try:
            engine.reset()
        except EngineFailed:
            engine.close()
        else:
            _log.info("its engine stays loaded for the next job")
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
