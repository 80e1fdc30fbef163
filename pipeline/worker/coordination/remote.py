"""The coordinator actor, as a worker reaches it."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from ray.exceptions import ActorDiedError, RayError

from pipeline.cluster.remote_actor import RemoteActor, RemoteFuture
from pipeline.dispatch.events import NoLease
from pipeline.engine.machine.vitals import Vitals
from pipeline.engine.protocol import EngineFacts
from pipeline.input.units import Unit
from pipeline.output.commit.records import CommitRecord
from pipeline.output.rows.redo import Redone
from pipeline.rows.row_range import RowRange
from pipeline.worker.coordination.messages import LastWords, Lease, LeaseRows, Orders, Progress
from pipeline.worker.metrics.meter import Meter
from pipeline.worker.stage import Stage

if TYPE_CHECKING:  # it imports this module
    from pipeline.worker.feeder import Feeder

_log = logging.getLogger(__name__)
_PULSE_SECONDS = 1.0
_LAST_WORDS_SECONDS = 10.0


class CoordinatorCalls(Protocol):
    """The coordinator's methods that a worker calls; ``driver.coordinator`` says what each does."""

    def join(self, worker: str, card: str) -> None: ...

    def acquire(self, worker: str, holding: Iterable[Unit] | None) -> Lease | NoLease: ...

    def commit(self, records: Iterable[CommitRecord | Redone]) -> None: ...

    def heartbeat(
        self,
        worker: str,
        progress: Progress,
        active: int = 0,
        flights: Iterable[RowRange] | None = None,
        vitals: Vitals | None = None,
    ) -> Orders: ...

    def introduce(
        self, worker: str, card: str, facts: EngineFacts | None, holding: Iterable[Unit]
    ) -> None: ...

    def returned(self, worker: str, holding: Iterable[Unit]) -> None: ...

    def gave_up(self, worker: str, unit: Unit, stop: int) -> None: ...

    def note(self, worker: str, line: str) -> None: ...

    def engine_ready(self, worker: str, facts: EngineFacts) -> None: ...

    def engine_failed(self, worker: str, said: LastWords) -> None: ...


class RemoteCoordination:
    """The coordinator actor, from a worker. A thread of its own sends a heartbeat every second,
    while the engine loads and at all other times, and passes on the answers."""

    def __init__(
        self,
        worker: str,
        actor: RemoteActor[CoordinatorCalls],
        card: str,
        meter: Meter,
        look: Callable[[], Vitals],
        outlives: bool,
    ) -> None:
        """``look``: reads the worker's cards. ``outlives``: this process would go on without its
        driver, so it is ended when the coordinator is gone for good, and the driver with it."""
        self._worker = worker
        self._actor = actor
        self._card = card
        self._meter = meter
        self._look = look
        self._vitals = look()
        self._outlives = outlives
        self._facts: EngineFacts | None = None
        self._progress = Progress()
        self._source: Feeder | None = None
        self._telling = threading.Lock()
        self._closed = threading.Event()
        self._pulse = Stage("pulse", self._beat)
        actor.call(CoordinatorCalls.join, worker, card).get()
        self._tell()  # so its cards are known before its engine is loaded
        self._pulse.start()

    def close(self) -> None:
        """Send the last totals, if anyone still listens, and nothing more."""
        self._closed.set()
        self._pulse.join(_PULSE_SECONDS)
        self._vitals = self._look()
        self._meter.close(self._progress, self._vitals)
        with suppress(RayError):  # otherwise no one would learn how the work ended
            self._actor.call(
                CoordinatorCalls.heartbeat, self._worker, self._progress, vitals=self._vitals
            ).get()

    def acquire(self) -> Lease | NoLease:
        """Units to work on, or why there are none."""
        holding = tuple(self._source.holding) if self._source is not None else None
        return self._actor.call(CoordinatorCalls.acquire, self._worker, holding).get()

    def committed(self, records: Sequence[CommitRecord | Redone]) -> None:
        """These commit records exist, or rows in them were done again."""
        self._actor.call(CoordinatorCalls.commit, records).get()

    def listen(self, source: Feeder) -> None:
        """From now on ask ``source`` for rows that others shall do."""
        self._source = source

    def heartbeat(self, progress: Progress) -> None:
        """The worker is alive, and this is how far it is."""
        self._progress = progress  # what comes next is sent with the next heartbeat
        self._pulse.check()

    def announce(self) -> None:
        """The engine is about to begin rows: report at once which these may be."""
        self._tell().get()  # orders can wait for the next heartbeat

    def engine_failed(self, said: LastWords) -> None:
        """The engine is gone."""
        call = self._actor.call(CoordinatorCalls.engine_failed, self._worker, said)
        call.get(_LAST_WORDS_SECONDS)

    def hang(self, said: LastWords) -> None:
        """The engine hangs: report it, and end this process, by force if needed. The guard ends
        what the engine started."""
        with suppress(Exception):
            self.engine_failed(said)
        _end_at_once()

    def _tell(self) -> RemoteFuture[Orders]:
        """Send a heartbeat."""
        source, progress = self._source, self._progress
        with self._telling:  # a later report must not be older
            active = source.active_rows(progress) if source else 0
            flights = source.flights if source else []
            return self._actor.call(
                CoordinatorCalls.heartbeat, self._worker, progress, active, flights, self._vitals
            )

    def note(self, line: str) -> None:
        """Print this for whoever watches the run."""
        self._actor.call(CoordinatorCalls.note, self._worker, line).get()

    def engine_ready(self, facts: EngineFacts) -> None:
        self._facts = facts
        self._actor.call(CoordinatorCalls.engine_ready, self._worker, facts).get()

    def _introduce(self) -> None:
        holding = tuple(self._source.holding) if self._source is not None else ()
        self._actor.call(
            CoordinatorCalls.introduce, self._worker, self._card, self._facts, holding
        ).get()

    def _beat(self) -> None:
        try:
            while not self._closed.wait(_PULSE_SECONDS):
                self._beat_once()
        except ActorDiedError:
            if self._outlives:  # it is useless, whatever its engine does
                _end_at_once()
            raise

    def _beat_once(self) -> None:
        lease = self._source.lease_rows if self._source is not None else LeaseRows()
        self._vitals = self._look()
        self._meter.update(self._progress, lease, self._vitals)
        orders = self._tell().get()
        if orders.introduce:
            _log.warning("the coordinator was lost and is back: told it what this worker holds")
            self._introduce()
        if self._source is None:
            return  # a worker without rows has nothing to give up
        if orders.stop_seconds is not None:
            self._source.wind_up(orders.stop_seconds)
            holding = tuple(self._source.holding)
            self._actor.call(CoordinatorCalls.returned, self._worker, holding).get()
        for request in orders.give_up:
            stop = self._source.give_up(request)
            self._actor.call(CoordinatorCalls.gave_up, self._worker, request.unit, stop).get()


def _end_at_once() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
