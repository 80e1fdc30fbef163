"""The coordinator actor, as a worker reaches it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError

from pipeline.dispatch.events import NoLease
from pipeline.engine.machine.vitals import Vitals
from pipeline.engine.protocol import EngineFacts
from pipeline.output.dataset import CommitRecord
from pipeline.output.redo import Redone
from pipeline.rows.row_range import RowRange
from pipeline.worker.messages import (
    Lease,
    LeaseRows,
    Orders,
    Progress,
    RowSource,
    Stage,
    active_rows,
)
from pipeline.worker.meter import Meter

_PULSE_SECONDS = 1.0
_LAST_WORDS_SECONDS = 10.0


class RemoteCoordination:
    """The coordinator actor, from a worker. A thread of its own says every second that the worker
    lives, while the engine loads and whatever it does, and passes on what comes back."""

    def __init__(
        self,
        worker: str,
        actor: Any,
        card: str,
        meter: Meter,
        vitals: Callable[[], Vitals] | None = None,
        orphaned: Callable[[], None] | None = None,
    ) -> None:
        """``vitals``: looks at the worker's cards. ``orphaned`` is called when the coordinator is
        gone for good, and its driver with it."""
        self._worker = worker
        self._actor = actor
        self._card = card
        self._meter = meter
        self._look = vitals
        self._vitals = vitals() if vitals is not None else None
        self._orphaned = orphaned
        self._facts: EngineFacts | None = None
        self._progress = Progress()
        self._source: RowSource | None = None
        self._telling = threading.Lock()
        self._closed = threading.Event()
        self._pulse = Stage("pulse", self._beat)
        ray.get(actor.join.remote(worker, card))
        self._tell()  # which cards it has is known before its engine is loaded
        self._pulse.start()

    def close(self) -> None:
        """Say the last totals, to whoever still hears them, and no more."""
        self._closed.set()
        self._pulse.join(_PULSE_SECONDS)
        self._look_at_cards()
        self._meter.close(self._progress, self._vitals)
        with suppress(RayError):  # else nobody would learn how the work ended
            ray.get(self._actor.heartbeat.remote(self._worker, self._progress, vitals=self._vitals))

    def acquire(self) -> Lease | NoLease:
        holding = tuple(self._source.holding) if self._source is not None else None
        answer: Lease | NoLease = ray.get(self._actor.acquire.remote(self._worker, holding))
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

    def engine_failed(self, why: str, rows: Sequence[RowRange]) -> None:
        call = self._actor.engine_failed.remote(self._worker, why, list(rows))
        ray.get(call, timeout=_LAST_WORDS_SECONDS)

    def hang(self, why: str, rows: Sequence[RowRange]) -> None:
        """The engine hangs: say so, and end this process as hard as it takes. The guard ends what
        the engine started."""
        with suppress(Exception):
            self.engine_failed(why, rows)
        os.kill(os.getpid(), signal.SIGKILL)

    def _tell(self) -> Any:
        """A heartbeat, on its way."""
        source, progress = self._source, self._progress
        with self._telling:  # what is told later must not be older
            active = active_rows(source, progress)
            flights = source.flights if source else []
            return self._actor.heartbeat.remote(
                self._worker, progress, active, flights, self._vitals
            )

    def _look_at_cards(self) -> None:
        if self._look is not None:
            self._vitals = self._look()

    def note(self, line: str) -> None:
        ray.get(self._actor.note.remote(self._worker, line))

    def engine_ready(self, facts: EngineFacts) -> None:
        self._facts = facts
        ray.get(self._actor.engine_ready.remote(self._worker, facts))

    def _introduce(self) -> None:
        holding = tuple(self._source.holding) if self._source is not None else ()
        ray.get(self._actor.introduce.remote(self._worker, self._card, self._facts, holding))

    def _beat(self) -> None:
        try:
            while not self._closed.wait(_PULSE_SECONDS):
                self._beat_once()
        except ActorDiedError:
            if self._orphaned is not None:
                self._orphaned()
            raise

    def _beat_once(self) -> None:
        lease = self._source.lease_rows if self._source is not None else LeaseRows()
        self._look_at_cards()
        self._meter.update(self._progress, lease, self._vitals)
        orders: Orders = ray.get(self._tell())
        if orders.introduce:
            self._introduce()
        if self._source is None:
            return  # who has no rows has nothing to give up
        if orders.stop_seconds is not None:
            self._source.wind_up(orders.stop_seconds)
            ray.get(self._actor.returned.remote(self._worker, tuple(self._source.holding)))
        for request in orders.give_up:
            stop = self._source.give_up(request)
            ray.get(self._actor.gave_up.remote(self._worker, request.unit, stop))
